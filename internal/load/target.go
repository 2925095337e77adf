package load

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// target is a server to put under load.
type target struct {
	Server  string // "lockd", "redis" or "memcached"
	Network string // "tcp" or "unix"
	Addr    string
}

// defaultTarget is where lockd listens by default.
const defaultTarget = "tcp://127.0.0.1:9999"

// parseTarget parses tcp://HOST:PORT, unix:///PATH, redis://HOST:PORT or
// memcached://HOST:PORT. HOST:PORT alone is lockd's, and so is PORT alone, on
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
	case "redis", "memcached":
		t.Server = scheme
	default:
		return t, fmt.Errorf("the target %q is not tcp://, unix://, redis:// or memcached://", text)
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
	scheme := t.Server
	if scheme == "lockd" {
		scheme = t.Network
	}
	return scheme + "://" + t.Addr
}

// dialAll opens n connections.
func (t target) dialAll(ctx context.Context, n int) ([]net.Conn, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := dialer.DialContext(ctx, t.Network, t.Addr)
		if err != nil {
			closeAll(conns)
			err = fmt.Errorf("cannot connect to %s: %w", t, reason(err))
			if len(conns) > 0 {
				err = fmt.Errorf("%w (after %d connections)", err, len(conns))
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
	if errors.Is(err, syscall.EMFILE) {
		return errors.New("too many open files: raise ulimit -n")
	}
	return err
}
