package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/client"
)

// Exit codes beside a command's own. 2 is kong's for a wrong command line.
const (
	exitFree        = 1   // inspect: nobody holds the lock
	exitUnavailable = 69  // EX_UNAVAILABLE of sysexits.h
	exitCannotRun   = 126 // as shells have it
	exitNotFound    = 127
	exitSignal      = 128 // plus the signal's number
)

// remote is how a command finds its server.
type remote struct {
	Server         string        `short:"s" placeholder:"TARGET" default:"tcp://127.0.0.1:9999" help:"The server: tcp://HOST:PORT, HOST:PORT, PORT, unix:///PATH or, except for run, ws://HOST:PORT/PATH (${default})."`
	ConnectTimeout time.Duration `placeholder:"TIME" default:"5s" help:"How long connecting may take (${default})."`
}

// Validate is called by kong.
func (r *remote) Validate() error {
	if r.ConnectTimeout <= 0 {
		return errors.New("--connect-timeout: must be above 0")
	}
	return nil
}

// options are those of a Client.
func (r *remote) options() client.Options {
	return client.Options{Target: r.Server, ConnectTimeout: r.ConnectTimeout}
}

// lineTarget returns where a net.Dialer finds the server, by the rules of
// client.Options.Target.
func (r *remote) lineTarget() (network, addr string, err error) {
	scheme, rest, ok := strings.Cut(r.Server, "://")
	if !ok {
		scheme, rest = "tcp", r.Server
	}
	switch scheme {
	case "tcp":
		addr = strings.TrimSuffix(rest, "/")
		if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
			addr = net.JoinHostPort("localhost", addr)
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return "", "", fmt.Errorf("--server: %q: want HOST:PORT", r.Server)
		}
		return "tcp", addr, nil
	case "unix":
		if rest == "" {
			return "", "", fmt.Errorf("--server: %q: want a path", r.Server)
		}
		return "unix", rest, nil
	case "ws":
		return "", "", fmt.Errorf("--server: %q: run speaks tcp:// and unix:// only", r.Server)
	}
	return "", "", fmt.Errorf("--server: %q: want tcp:// or unix://", r.Server)
}

// verbatim is an argument in its very bytes: kong would give a string with
// U+FFFD for each that is not UTF-8, which is another lock or file.
type verbatim string

// Decode implements kong.MapperValue.
func (v *verbatim) Decode(ctx *kong.DecodeContext) error {
	token, err := ctx.Scan.PopValue("argument")
	if err != nil {
		return err
	}
	*v = verbatim(token.String())
	return nil
}

// fold spells a name as servers do: blanks at its ends are dropped, runs of
// them inside become one space. A line break cannot be in a name.
func fold(name string) (string, error) {
	if strings.ContainsAny(name, "\r\n") {
		return "", errors.New("a name cannot contain a line break")
	}
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool {
		return r == ' ' || r == '\t' || r == '\v' || r == '\f'
	}), " "), nil
}
