package load

import (
	"context"
	"crypto/tls"
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

	"github.com/nylen/lockd/internal/wire"
)

// target is a server to put under load.
type target struct {
	Server  string // "lockd", "redis" or "memcached"
	Network string // "tcp" or "unix"
	Addr    string
	URL     *url.URL // of a WebSocket, over Network to Addr; else nil
	Secure  bool     // within TLS
}

// defaultTarget is where lockd listens by default.
const defaultTarget = "tcp://127.0.0.1:9999"

// parseTarget parses tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH,
// ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, redis://HOST:PORT or
// memcached://HOST:PORT. HOST:PORT alone is lockd's, and so is PORT alone, on this
// machine; empty is defaultTarget.
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
	case "tcp", "tls":
		t.Secure = scheme == "tls"
	case "unix":
		t.Network = "unix"
		if addr == "" {
			return t, errors.New("the target unix:///PATH lacks a path")
		}
		return t, nil
	case "ws", "wss":
		u, err := url.ParseRequestURI(text)
		if err != nil || u.Host == "" {
			return t, fmt.Errorf("the target %q is not %s://HOST:PORT/PATH", text, scheme)
		}
		t.URL, addr, t.Secure = u, u.Host, scheme == "wss"
		if u.Port() == "" {
			port := "80"
			if t.Secure {
				port = "443"
			}
			addr = net.JoinHostPort(u.Hostname(), port)
		}
	case "redis", "memcached":
		t.Server = scheme
	default:
		return t, fmt.Errorf("the target %q is not tcp://, tls://, unix://, ws://, wss://, redis:// or memcached://", text)
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
		return t.URL.Scheme + "://" + t.URL.Host + t.URL.Path
	}
	scheme := t.Server
	switch {
	case scheme != "lockd":
	case t.Secure:
		scheme = "tls"
	default:
		scheme = t.Network
	}
	return scheme + "://" + t.Addr
}

// authenticates tells whether a connection begins with a token, which is for lockd
// alone.
func (r *run) authenticates() bool { return r.opts.Token != "" && r.target.Server == "lockd" }

// dial opens a connection to an address of the target, ready for requests.
func (r *run) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.ConnectTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := r.dress(ctx, &c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// dress does what comes before requests: it speaks TLS, makes the connection one of
// WebSocket, and authenticates.
func (r *run) dress(ctx context.Context, c *net.Conn) error {
	t := r.target
	until, _ := ctx.Deadline()
	if t.Secure {
		config := new(tls.Config)
		if r.opts.TLS != nil {
			config = r.opts.TLS.Clone()
		}
		if host, _, _ := net.SplitHostPort(t.Addr); config.ServerName == "" {
			config.ServerName, _, _ = strings.Cut(host, "%")
		}
		secure := tls.Client(*c, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return err
		}
		*c = secure
	}
	if t.URL != nil {
		if err := upgrade(*c, t.URL, until); err != nil {
			return err
		}
	}
	if r.authenticates() {
		return authenticate(*c, r.opts.Token, t.URL != nil, until)
	}
	return nil
}

// authenticate presents the token.
func authenticate(c net.Conn, token string, ws bool, until time.Time) error {
	c.SetDeadline(until)
	defer c.SetDeadline(time.Time{})
	request := []byte(wire.Auth + " " + token)
	if ws {
		request = append(frameHeader(len(request)), request...)
	} else {
		request = append(request, '\n')
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	var in []byte
	for b := make([]byte, 512); ; {
		n, err := c.Read(b)
		in = append(in, b[:n]...)
		reply := line(in)
		if ws && err == nil {
			reply, _, err = frame(in)
		}
		switch {
		case string(reply) == wire.OK:
			return nil
		case string(reply) == wire.AuthFailed:
			return errors.New("the server does not know the token")
		case string(reply) == wire.TooManyConnections:
			return errors.New("too many connections")
		case len(reply) > 0 || len(in) > maxReply:
			return errors.New("the server does not say whether it knows the token") // what it says may repeat it
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.New("no answer to the token in time: perhaps the server knows none")
		case err != nil:
			return err
		}
	}
}

// dialAll opens n connections.
func (r *run) dialAll(ctx context.Context, n int) ([]net.Conn, error) {
	t := r.target
	conns := make([]net.Conn, 0, n)
	for range n {
		c, err := r.dial(ctx, t.Network, t.Addr)
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
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the server closed the connection")
	}
	return err
}
