package client

import (
	"errors"
	"fmt"
	"strings"
)

// What a server says no to. These errors concern one request; the client, and
// every lock it holds, is well.
var (
	// ErrNotAcquired: Get found the lock held by another client, TryAcquire by
	// any other owner, a Lock of the same Locker included, or
	// TryAcquireShared found its limit reached or somebody in the queue.
	ErrNotAcquired = errors.New("lockd: lock is held by another owner")

	// ErrNotHeld: Release or ReleaseShared named a lock that this client does
	// not hold.
	ErrNotHeld = errors.New("lockd: lock is not held by this client")

	// ErrDisabled: the server runs without the feature that the method needs,
	// which is its dump for Dump, DumpAll, DumpShared, DumpAllShared, Look and
	// List, its registry for SetName, and both for Clients.
	ErrDisabled = errors.New("lockd: feature is disabled on the server")

	// ErrNotAllowed: the server does not let this client do that, or not with that
	// name: its role, which hangs on Options.Token or on its certificate, has not
	// got the request, or the name does not begin as it has to.
	ErrNotAllowed = errors.New("lockd: not allowed by the server")

	// ErrNoSuchClient: Kick named a client that is not there.
	ErrNoSuchClient = errors.New("lockd: no such client")

	// ErrTooManyLocks: the server's bound on locks, or on those of one client, is
	// reached and the lock was not acquired.
	ErrTooManyLocks = errors.New("lockd: server holds too many locks")

	// ErrServerFull: the server, or this client's share of it, has no memory for
	// what was asked.
	ErrServerFull = errors.New("lockd: server has no memory for more")

	// ErrNoSuchRate: DropRate named a rate of which all units are open.
	ErrNoSuchRate = errors.New("lockd: no such rate")

	// ErrTooManyWaiters: as many as the server's bound, or that on one client's,
	// wait for locks already.
	ErrTooManyWaiters = errors.New("lockd: server has too many waiters")

	// ErrShuttingDown: the server is about to end and grants nothing new; what is
	// held already may be finished. A Locker takes it for an outage of this server
	// and waits for the next one; where it does not wait, as with FailFast, the error
	// is ErrLost, too, though the connection, and the locks that hang on it, may
	// stand for a while.
	ErrShuttingDown = errors.New("lockd: server is shutting down")

	// ErrTooManySessions: a Locker has as many locks and calls under way as
	// LockerOptions.Sessions (with an old server, OldConnections) or the
	// server allow. More Connections are the remedy.
	ErrTooManySessions = errors.New("lockd: too many sessions")

	// ErrRecovering: the server has just started, and gives nothing to anybody until
	// those who held locks before have had the time to claim them. A Locker waits for
	// the end of that, unless it is to FailFast; to wait in a queue, as Acquire does, is
	// allowed meanwhile.
	ErrRecovering = errors.New("lockd: server is recovering: it grants nothing until the holders of before have claimed their locks")

	// ErrUnavailable: the node of a cluster that was asked cannot reach the one that serves
	// the name, or that may not serve for now. A Locker waits for the end of that, unless it
	// is to FailFast.
	ErrUnavailable = errors.New("lockd: who serves the name cannot be reached now")

	// ErrBadArgument: a limit, a rate or a number of units makes no sense.
	// Nothing was sent.
	ErrBadArgument = errors.New("lockd: bad argument")

	// ErrLineTooLong: the request is longer than Options.MaxLine, and was not
	// sent, or longer than the server takes, and was not carried out.
	ErrLineTooLong = errors.New("lockd: request line is too long")

	// ErrBadName: a name contains a line break, so that what follows it would
	// be a request of its own. Nothing was sent.
	ErrBadName = errors.New("lockd: name contains a line break")
)

// Why there is no connection, and so no lock.
var (
	// ErrLost: the connection could not be made or ended, or was given up
	// because it could not be trusted any more. All locks of the client are
	// lost with it. The error wraps the cause too.
	ErrLost = errors.New("lockd: connection lost")

	// ErrUnreachable, as the cause of an ErrLost: the connection could not even
	// be made, for a reason that is wrapped, too. No lock was held over it.
	ErrUnreachable = errors.New("lockd: server cannot be reached")

	// ErrRevoked, as the cause of an ErrLost: the server has taken away this lock
	// alone, because somebody has ended its owner, or because after a restart it had
	// gone to somebody else.
	ErrRevoked = errors.New("lockd: the server has taken the lock away")

	// ErrForgotten, as the cause of an ErrLost: the connection was lost, and when there
	// was one again the server knew nothing of the locks that it should have kept (see
	// LockerOptions.Keep).
	ErrForgotten = errors.New("lockd: the server has not kept the locks")

	// ErrClosed: Close was called.
	ErrClosed = errors.New("lockd: client is closed")

	// ErrTimeout, as the cause of an ErrLost: connecting took longer than
	// Options.ConnectTimeout, or a reply longer than Options.ReadTimeout.
	ErrTimeout = errors.New("lockd: timeout")

	// ErrTooManyConnections, as the cause of an ErrLost: the server's bound on
	// connections is reached.
	ErrTooManyConnections = errors.New("lockd: server has too many connections")

	// ErrReplyTooLong, as the cause of an ErrLost: a list was longer than
	// Options.MaxReply. Locker.Look returns it alone, for nothing is lost.
	ErrReplyTooLong = errors.New("lockd: reply is too long")

	// ErrProtocol, as the cause of an ErrLost: the server sent what no request
	// of this client can have asked for, or a number that cannot be meant, such
	// as a count of 2^32 or a token of 2^53. Replies can no longer be told
	// apart after that, and a client that guessed might believe in a lock which
	// it does not hold.
	ErrProtocol = errors.New("lockd: unexpected reply")
)

// Why a server does not do anything for this client: it is not known who that is.
// Of a Client's ErrLost they are the cause. A Locker's calls return them alone, and
// do not wait for the next connection, though it tries to make one now and then.
var (
	// ErrAuthFailed: the server does not know the token that Options.Token gave.
	ErrAuthFailed = errors.New("lockd: the server does not know this client's token")

	// ErrNotAuthenticated: the server asks for a token, and there is none, or for
	// a certificate of a name that it knows.
	ErrNotAuthenticated = errors.New("lockd: not authenticated: the server asks for a token, or for a certificate that it knows")

	// ErrNoToken: Options.Token gave none, for a reason that is wrapped, too. The
	// server was told nothing.
	ErrNoToken = errors.New("lockd: no token")

	// ErrNoAuth: the server is too old to know tokens, and so to keep anybody from
	// anything. It is an ErrUnsupported, too.
	ErrNoAuth = fmt.Errorf("%w: it knows no tokens (no auth)", ErrUnsupported)
)

// lost returns an ErrLost that wraps why.
func lost(cause error) error { return &lostError{cause} }

type lostError struct{ cause error }

func (e *lostError) Error() string {
	return ErrLost.Error() + ": " + strings.TrimPrefix(e.cause.Error(), "lockd: ")
}

func (e *lostError) Unwrap() []error { return []error{ErrLost, e.cause} }

// besides returns err, and another one besides. What err says already is not
// said twice.
func besides(err, other error) error {
	switch {
	case other == nil:
		return err
	case err == nil:
		return other
	case strings.Contains(err.Error(), other.Error()):
		return &besidesError{err, other}
	}
	return errors.Join(err, other)
}

type besidesError struct{ err, other error }

func (e *besidesError) Error() string   { return e.err.Error() }
func (e *besidesError) Unwrap() []error { return []error{e.err, e.other} }

// unreachable is an ErrUnreachable, and says why in that error's own words.
type unreachable struct{ error }

func (e unreachable) Is(target error) bool { return target == ErrUnreachable }
func (e unreachable) Unwrap() error        { return e.error }

// What a server is too old for. Each of them is ErrUnsupported too. Those about
// locks, rates and tokens concern a Locker, with a server that speaks protocol 1
// only.
var (
	// ErrUnsupported: the server is too old for what was asked.
	ErrUnsupported = errors.New("lockd: server is too old")

	// ErrNoWaiting: the server does not let anyone wait for a lock, so
	// Acquire, AcquireShared and Do cannot work. TryAcquire does.
	ErrNoWaiting = fmt.Errorf("%w: no waiting for locks", ErrUnsupported)

	// ErrNoSharedLimits: the server's shared locks have no limit.
	// TryAcquireShared works without one.
	ErrNoSharedLimits = fmt.Errorf("%w: no limits of shared locks", ErrUnsupported)

	// ErrNoRates: the server has no rate limiters.
	ErrNoRates = fmt.Errorf("%w: no rate limiters", ErrUnsupported)

	// ErrNoTokens: the server has no fencing tokens. Only Locker.Missing
	// returns it; a lock's Token is 0.
	ErrNoTokens = fmt.Errorf("%w: no fencing tokens", ErrUnsupported)

	// ErrNoLook: the server does not tell who waits, nor since when somebody
	// holds. The lists of Client.DumpAll and DumpAllShared, of holders alone, all
	// servers have.
	ErrNoLook = fmt.Errorf("%w: it does not tell who waits (no look)", ErrUnsupported)

	// ErrNoOverview: the server tells neither which locks stand out nor how it is.
	ErrNoOverview = fmt.Errorf("%w: it gives no overview (no top, clients, stats)", ErrUnsupported)
	// ErrNoLosses: the server does not tell what was lost.
	ErrNoLosses = fmt.Errorf("%w: it does not tell what was lost (no losses)", ErrUnsupported)

	// ErrNoDropRate: the server drops no rates.
	ErrNoDropRate = fmt.Errorf("%w: it drops no rates (no rd)", ErrUnsupported)

	// ErrNoKick: the server ends no clients.
	ErrNoKick = fmt.Errorf("%w: it ends no clients (no kick)", ErrUnsupported)
)

// What a server does not give of LockerOptions.Keep. Locker.Missing returns them.
var (
	// ErrNoKeep: the server keeps nothing without a connection. It is too old, or told
	// not to, or has no room for one more that it keeps things for, or keeps them for less
	// than LockerOptions.StopTime. So locks are lost with the connection.
	ErrNoKeep = errors.New("lockd: the server keeps no locks without a connection")

	// ErrShortKeep: the server keeps locks for a shorter time than was asked for (see its
	// flag --max-keep). The error that wraps it says for how long.
	ErrShortKeep = errors.New("lockd: the server keeps locks without a connection for a shorter time")

	// ErrBlipsOnly: the server keeps locks without a connection, but not over its own
	// restart (it runs without --state).
	ErrBlipsOnly = errors.New("lockd: the server keeps no locks over its own restart")
)

// A ReplyError is a refusal that this package has no name for, such as a newer
// server may send. The request was not carried out.
type ReplyError struct {
	// Reply is the server's line, without its end.
	Reply string
}

func (e *ReplyError) Error() string { return "lockd: server replied " + e.Reply }
