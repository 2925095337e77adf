package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is a server to put under load.
type target struct {
	Server  string // "lockd", "redis" or "memcached"
	Network string // "tcp" or "unix"
	Addr    string
	URL     *url.URL // of a WebSocket, over Network to Addr; else nil
}

// defaultTarget is where lockd listens by default.
const defaultTarget = "tcp://127.0.0.1:9999"

// parseTarget parses tcp://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH,
// redis://HOST:PORT or memcached://HOST:PORT. HOST:PORT alone is lockd's, and so is PORT alone, on
// this machine; empty is defaultTarget.
func parseTarget(text string) (target, error) {
	if text == "" {
		text = defaultTarget
	}
	scheme, addr, ok := strings.Cut(text, "://")
	if !ok {
		scheme, addr = "tcp", text
	}
	t := target{Server: "lockd", Network: "tcp", Addr: addr}
	switch scheme {
	case "tcp":
	case "unix":
		t.Network = "unix"
		if addr == "" {
			return t, errors.New("the target unix:///PATH lacks a path")
		}
		return t, nil
	case "ws":
		u, err := url.ParseRequestURI(text)
		if err != nil || u.Host == "" {
			return t, fmt.Errorf("the target %q is not ws://HOST:PORT/PATH", text)
		}
		t.URL, addr = u, u.Host
		if u.Port() == "" {
			addr = net.JoinHostPort(u.Hostname(), "80")
		}
	case "redis", "memcached":
		t.Server = scheme
	default:
		return t, fmt.Errorf("the target %q is not tcp://, unix://, ws://, redis:// or memcached://", text)
	}
	t.Addr = strings.TrimSuffix(addr, "/")
	if _, err := strconv.ParseUint(t.Addr, 10, 16); err == nil {
		t.Addr = net.JoinHostPort("localhost", t.Addr)
	}
	if _, port, err := net.SplitHostPort(t.Addr); err != nil || port == "" {
		return t, fmt.Errorf("the target %q is not HOST:PORT", text)
	}
	return t, nil
}

func (t target) String() string {
	if t.URL != nil {
		return "ws://" + t.URL.Host + t.URL.Path
	}
	scheme := t.Server
	if scheme == "lockd" {
		scheme = t.Network
	}
	return scheme + "://" + t.Addr
}

// dialAll opens n connections, each within some time.
func (t target) dialAll(ctx context.Context, n int, patience time.Duration) ([]net.Conn, error) {
	dialer := net.Dialer{Timeout: patience}
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, t.Network, t.Addr)
		if err == nil && t.URL != nil {
			if err = upgrade(c, t.URL, patience); err != nil {
				c.Close()
			}
		}
		if err != nil {
			closeAll(conns)
			err = fmt.Errorf("cannot reach %s: %w", t, reason(err))
			if len(conns) > 0 {
				err = fmt.Errorf("%w (after %s)", err, Plural(len(conns), "connection"))
			}
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// reason strips an error of what the message around it says already.
func reason(err error) error {
	if op := new(net.OpError); errors.As(err, &op) {
		err = op.Err
	}
	if call := new(os.SyscallError); errors.As(err, &call) {
		err = call.Err
	}
	switch {
	case errors.Is(err, syscall.EMFILE):
		return errors.New("too many open files: raise ulimit -n")
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection")
	}
	return err
}
