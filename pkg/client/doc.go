// Package client holds locks on a lockd server.
//
// A lock is held by staying connected: a Client is one connection, what it
// got it holds until it releases it or until the connection ends, and then
// the server frees everything at once. There are no leases to renew and no
// stale locks to clean up. The price is a duty: whoever works under a lock
// must stop when [Client.Lost] closes, because from then on someone else may
// hold it.
//
//	c, err := client.New(client.Options{Target: "tcp://127.0.0.1:9999"})
//	if err != nil {
//		return err // the options make no sense; the network was not asked yet
//	}
//	defer c.Close()
//
//	switch err := c.Get(ctx, "nightly report"); {
//	case errors.Is(err, client.ErrNotAcquired):
//		return nil // another client is at it
//	case err != nil:
//		return err
//	}
//	defer c.Release(ctx, "nightly report")
//
// That is a [Client], which every server understands. A [Locker] is for
// programs in which many goroutines need locks, with a server that speaks
// protocol 2: all of them share one connection, each lock has an owner of its
// own, waiting is in a queue and ends with a context, and a lost connection is
// made again.
//
//	l, err := client.NewLocker(client.LockerOptions{})
//	...
//	err = l.Do(ctx, "nightly report", func(ctx context.Context, lock *client.Lock) error {
//		return report(ctx, lock.Token()) // ctx ends when the lock is lost
//	})
//
// Most of what follows is about Clients; the last part is about Lockers.
//
// # Who owns a lock
//
// The connection does. All goroutines of one Client are one owner: if one of
// them has got a lock, another one succeeds in getting it at once, and either
// may release it for both. Goroutines that have to exclude each other need a
// mutex between them, or a Client each.
//
// # Queueing
//
// A Client may be used as soon as New returned: requests wait in a queue until
// the connection stands. From then on they are sent one at a time, in the
// order in which they came, and no request is sent before the one in front of
// it was answered. All methods may be called by many goroutines at once.
//
// # Contexts
//
// A request whose context ends in the queue is never sent. If it is on its
// way already, the method returns the context's error at once and the reply is
// dropped when it comes. A Get or GetShared that was given up like that and
// then succeeds is undone: the client releases the lock before it sends
// anything else, unless it held the lock before. After a Release that was
// given up nobody can say whether the lock is still held; Release it again to
// know.
//
// # Losing the connection
//
// A lost Client stays lost. It does not connect again, since the locks it held
// would not come back with the connection, and code that holds on to them
// would not notice: make a new Client, and get the locks again. Every pending
// and later request returns an error for which errors.Is(err, ErrLost) holds,
// and which wraps the cause, such as [ErrTimeout] or [ErrTooManyConnections].
// After Close the error is [ErrClosed] instead.
//
// A Client that holds locks asks the server for a sign of life, often enough to be
// lost before a server that cannot reach it gives the locks to others, see
// [Client.Lost].
//
// # Names
//
// A name is any string without a line break. The blanks (space, \t, \v, \f) at
// its ends are dropped and runs of them inside count as one space, so "a  b"
// and " a b " are the lock "a b"; that is the server's rule, and the client
// follows it before it sends a name, so that it also holds with servers that
// do not have it. Names in results are spelled that way. The empty name is a
// lock like any other.
//
// # Who holds a lock
//
// [Client.Look] and [Locker.Look] return everybody who holds a lock or waits for
// it, and since when, List everybody there is; servers that are too old for
// it ([ErrNoLook]) have Client.Dump and its kind. Kick ends one that holds a lock
// and should not. [Client.Losses] and [Locker.Losses] say what became of locks that
// clients have lost, and why.
//
// Clients are shown by the name that they have registered, or else by their
// address. A Locker registers [ProcessName], HOST:PROGRAM:PID, unless its options
// say otherwise; a Client what Options.Name says, or SetName. What exactly a
// goroutine is at, [WithNote] adds for the lock that it takes: so a list may say
// "web-3:shop:4711 order 17".
//
// # Servers
//
// A Client speaks protocol 1 over TCP, TLS, unix sockets, WebSocket and anything
// that gives a net.Conn, and works with lockd, with lockd for Node.js and with
// glockd. It does not wait for locks, take turns or count by itself: what a
// method returns is what the server replied.
//
// # TLS and tokens
//
// A target tls://HOST:PORT, or wss:// for WebSocket, is within TLS. The server's
// certificate has to be from an authority that the system trusts, or that Options.TLS
// names, and for HOST. What is wrong with it, or with the client's own, a [TLSError]
// says in plain words.
//
// A server that asks who one is knows it by a token, which Options.Token tells, or by
// the client's certificate. Tokens are read for each connection, so they may be
// replaced while a program runs. They are in no error and no log. Who is not known
// gets [ErrNotAuthenticated] or [ErrAuthFailed], and what one has no right to,
// [ErrNotAllowed]. [FromEnv] has the environment say where the server is, whom to
// trust, and where the token is:
//
//	opts, err := client.FromEnv("") // LOCKD_SERVER, LOCKD_TOKEN_FILE, LOCKD_TLS_CA ...
//	if err != nil {
//		return err
//	}
//	l, err := client.NewLocker(client.LockerOptions{Options: opts})
//
// When the server has ceased to know a token, as when it was replaced, the token is
// asked for and presented once more over the connection that stands, and what is held
// stays held. If that does not help, a Locker ends the connection when it can no longer
// release a lock otherwise.
//
// # Lockers
//
// Every [Lock] that a Locker hands out is a session of protocol 2, an owner of
// its own. So a goroutine does not get a lock that another one of the same
// Locker holds, no owner gets a lock twice, and only whoever has the Lock can
// release it. Sessions are cheap and used again, and those that a peak has left
// behind end after a minute or two; there is nothing to manage about them.
//
// Requests of all goroutines are sent as they come. None waits for another's
// reply, and those that come together share system calls.
//
// When a wait's context ends, the method returns at once; the Locker takes the
// wait back on the server, and releases the lock if it was granted meanwhile.
// If there was no connection then, the error is an [ErrLost] besides; without
// it, the lock was busy. To release a lock without waiting for the server's
// word, give Release a context that has ended.
//
// When the connection ends, the channel of [Lock.Lost] closes for every lock
// that was held over it, and the server has freed them; [Lock.Err] tells why.
// They are never taken again silently: Release returns ErrLost, and whoever
// needs the lock acquires it again. The Locker reconnects by itself, and tells
// LockerOptions.Logger; if there is none, slog's default logger is told, but only
// that the server cannot be reached and calls wait. Acquire goes on waiting over the next connection, at the
// end of the queue; LockerOptions.MaxOutage bounds for how long there may be
// none.
//
// With [LockerOptions].Keep all that is different: the locks outlive the connection for a
// while, and with a server that has a state file, its own restart, too. The Locker comes
// back to them by itself, calls wait until it has, and Lost closes only if that takes too
// long, or for those locks that the server has not got any more. It closes before anybody
// else can have the lock, as ever. OnKeep tells of blips, and Missing what the server does
// not give of it:
//
//	l, err := client.NewLocker(client.LockerOptions{Keep: 20 * time.Second})
//	...
//	defer l.Close() // or else the server keeps the locks of a process that has ended
//
// # Clusters
//
// A target may be several, nodes of a cluster or proxies of one server:
//
//	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{
//		Target: "tcp://10.0.0.1:9999,10.0.0.2:9999,10.0.0.3:9999",
//	}})
//
// One that answers is connected to, in a random order, and another one when it is gone.
// Every node takes every request. But a Locker asks the node that serves a name itself,
// and saves the way through another one: it reads the map of the cluster, is told of newer ones, and has a
// connection to each node, made when it is first needed. A [Lock] is held over one of them,
// and lost with that one alone. A node that cannot be reached is asked by way of another
// one. [LockerOptions].NoMap turns that off; with other servers there is no map.
//
// # Old servers
//
// With a server that speaks protocol 1 only, TryAcquire and TryDo work, and so do
// shared locks without a limit, each lock taking a connection of its own, of which
// the Locker asks for a sign of life as of any other; Inspect and InspectShared do,
// too. The rest returns errors that are [ErrUnsupported] and name what is missing.
//
// # Bare connections
//
// A [Conn] carries requests and replies as they are, for programs that show
// people the protocol, as `lockd shell` does.
package client
