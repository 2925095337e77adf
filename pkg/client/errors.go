package client

import "errors"

// What a server says no to. These errors concern one request; the client, and
// every lock it holds, is well.
var (
	// ErrNotAcquired: Get found the lock held by another client.
	ErrNotAcquired = errors.New("lockd: lock is held by another client")

	// ErrNotHeld: Release or ReleaseShared named a lock that this client does
	// not hold.
	ErrNotHeld = errors.New("lockd: lock is not held by this client")

	// ErrDisabled: the server runs without the feature that the method needs,
	// which is its dump for Dump, DumpAll, DumpShared and DumpAllShared, its
	// registry for SetName, and both for Clients.
	ErrDisabled = errors.New("lockd: feature is disabled on the server")

	// ErrTooManyLocks: the server's bound on locks is reached and the lock was
	// not acquired.
	ErrTooManyLocks = errors.New("lockd: server holds too many locks")

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

	// ErrClosed: Close was called.
	ErrClosed = errors.New("lockd: client is closed")

	// ErrTimeout, as the cause of an ErrLost: connecting took longer than
	// Options.ConnectTimeout, or a reply longer than Options.ReadTimeout.
	ErrTimeout = errors.New("timeout")

	// ErrTooManyConnections, as the cause of an ErrLost: the server's bound on
	// connections is reached.
	ErrTooManyConnections = errors.New("server has too many connections")

	// ErrProtocol, as the cause of an ErrLost: the server sent what no request
	// of this client can have asked for. Replies can no longer be told apart
	// after that, and a client that guessed might believe in a lock which it
	// does not hold.
	ErrProtocol = errors.New("unexpected reply")
)

// A ReplyError is a refusal that this package has no name for, such as a newer
// server may send. The request was not carried out.
type ReplyError struct {
	// Reply is the server's line, without its end.
	Reply string
}

func (e *ReplyError) Error() string { return "lockd: server replied " + e.Reply }
