package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// Exit codes beside a command's own. 2 is kong's for a wrong command line.
const (
	exitFree        = 1   // inspect: nobody holds the lock
	exitNoRequest   = 1   // shell: a line of the script was none
	exitUnavailable = 69  // EX_UNAVAILABLE of sysexits.h
	exitOutput      = 74  // EX_IOERR: what was to be printed could not be
	exitCannotRun   = 126 // as shells have it
	exitNotFound    = 127
	exitSignal      = 128 // plus the signal's number
)

// endpoint is how a command finds its server.
type endpoint struct {
	Server         filled        `short:"s" placeholder:"TARGET" default:"tcp://127.0.0.1:9999" help:"The server: tcp://HOST:PORT, HOST:PORT, PORT, tls://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH or wss://HOST:PORT/PATH (${default}). Several nodes of a cluster, or proxies of one server, may stand with commas between: one that answers is taken."`
	ConnectTimeout time.Duration `placeholder:"TIME" default:"5s" help:"How long connecting may take (${default})."`
	credentials
}

// remote is the endpoint of a lockd.
type remote struct{ endpoint }

// Validate is called by kong.
func (r *remote) Validate() error {
	if err := (client.Options{Target: string(r.Server)}).Validate(); err != nil {
		return fmt.Errorf("--server: %s", strings.TrimPrefix(err.Error(), "lockd: target "))
	}
	return r.credentials.read(string(r.Server))
}

// options are how a client of this package reaches the server.
func (r *remote) options() client.Options {
	r.credentials.warn()
	return client.Options{Target: string(r.Server), TLS: r.tls, Token: r.token, ConnectTimeout: r.ConnectTimeout}
}

// explain says in one line why a command got no answer from the server, which
// had a time for it.
func (r *endpoint) explain(err error, patience time.Duration) string {
	if errors.Is(err, client.ErrUnreachable) {
		return fmt.Sprintf("cannot reach %s: %v", r.Server, plainly(err, r.ConnectTimeout))
	}
	return fmt.Sprintf("%s: %v", r.Server, plainly(err, patience))
}

// plainly says in a few words why a server was not heard within a time: the
// names of packages, system calls and addresses are around it already.
func plainly(err error, patience time.Duration) error {
	if flags := remedy(err); flags != nil {
		return flags
	}
	switch op, call := new(net.OpError), new(os.SyscallError); {
	case errors.Is(err, client.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer within %v", patience)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection")
	case errors.Is(err, client.ErrLineTooLong):
		return errors.New("the name is too long")
	case errors.As(err, &call):
		return call.Err
	case errors.As(err, &op):
		return op.Err
	}
	text := strings.TrimPrefix(err.Error(), "lockd: ")
	return errors.New(strings.TrimPrefix(text, "connection lost: "))
}
