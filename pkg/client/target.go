package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A target is a parsed Options.Target: either a network and an address for
// net.Dialer, or the url of a WebSocket.
type target struct {
	network, addr string // both empty: known to Options.Dial alone
	url           *url.URL
	secure        bool // within TLS
}

func parseTarget(s string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, fmt.Errorf("lockd: target %q: %s", s, why)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "tcp", s
	}
	switch scheme {
	case "tcp", "tls":
		addr := strings.TrimSuffix(rest, "/")
		if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
			addr = net.JoinHostPort("localhost", addr)
		}
		_, port, err := net.SplitHostPort(addr)
		switch {
		case err != nil:
			return bad("want HOST:PORT")
		case !isPort(port):
			return bad("the port is not a number from 1 to 65535")
		}
		return target{network: "tcp", addr: addr, secure: scheme == "tls"}, nil
	case "unix":
		// unix://tmp/x is more likely to lack a slash than to mean a path from
		// wherever the program was started.
		if !filepath.IsAbs(rest) && !strings.HasPrefix(rest, "./") && !strings.HasPrefix(rest, "../") && !strings.HasPrefix(rest, "@") {
			return bad("want unix:///PATH, or unix://./PATH for one from the working directory")
		}
		return target{network: "unix", addr: rest}, nil
	case "ws", "wss":
		u, err := url.ParseRequestURI(s)
		switch {
		case err != nil || u.Host == "":
			return bad("want " + scheme + "://HOST:PORT/PATH")
		case u.User != nil:
			s = u.Redacted()
			return bad("a user and a password have no meaning here")
		case u.Port() != "" && !isPort(u.Port()):
			return bad("the port is not a number from 1 to 65535")
		}
		if u.Path == "" {
			u.Path = "/"
		}
		return target{url: u, secure: scheme == "wss"}, nil
	}
	return bad("want tcp://, tls://, unix://, ws:// or wss://")
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// String is for logs.
func (to target) String() string {
	switch {
	case to.url != nil:
		return to.url.Scheme + "://" + to.url.Host + to.url.Path // a query may be a secret
	case to.network == "":
		return "Options.Dial"
	case to.secure:
		return "tls://" + to.addr
	}
	return to.network + "://" + to.addr
}

// connectAny connects to one of some targets.
func (o *Options) connectAny(ctx context.Context, all targets, use use) (transport, target, error) {
	type connection struct {
		transport
		to target
	}
	got, err := reach(ctx, all.order(target{}), func(ctx context.Context, to target) (connection, error) {
		t, err := o.connect(ctx, to, use)
		return connection{t, to}, err
	}, func(late connection) { late.close() })
	return got.transport, got.to, err
}

// connect makes the connection that the options describe.
func (o *Options) connect(ctx context.Context, to target, use use) (transport, error) {
	if o.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.ConnectTimeout)
		defer cancel()
	}
	t, err := o.open(ctx, to, o.dialer(to), use)
	if err == nil {
		if err = o.authenticate(ctx, t); err == nil {
			return t, nil
		}
		t.close()
	}
	if isRefusal(err) {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		// The dialer's own error says context.DeadlineExceeded of a context
		// that the caller has never seen.
		if wrong := new(TLSError); errors.As(err, &wrong) { // it says more
			return nil, unreachable{&TLSError{wrong.Reason, ErrTimeout}}
		}
		err = fmt.Errorf("%w: no connection after %v: %v", ErrTimeout, o.ConnectTimeout, err)
	}
	return nil, unreachable{err}
}

// dialer returns what makes the connection below all else.
func (o *Options) dialer(to target) func(context.Context) (net.Conn, error) {
	if o.Dial != nil {
		return o.Dial
	}
	// For servers that do not tell after which time they free the locks of a
	// client that they cannot reach: a lockd does so after 35 s, and it may
	// have heard the client last when that had 15 s left to be silent.
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3,
	}}
	return func(ctx context.Context) (net.Conn, error) {
		if to.url == nil {
			return d.DialContext(ctx, to.network, to.addr)
		}
		return d.DialContext(ctx, "tcp", to.hostPort())
	}
}

// open makes the connection, and whatever is between it and requests.
func (o *Options) open(ctx context.Context, to target, dial func(context.Context) (net.Conn, error), use use) (transport, error) {
	if to.secure {
		bare := dial
		dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := bare(ctx)
			if err != nil {
				return nil, err
			}
			return o.secured(ctx, conn, to)
		}
	}
	if to.url != nil {
		return openWebSocket(ctx, to.url, dial, use)
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	return newLineTransport(conn, use), nil
}

// host is what a server's certificate has to be for.
func (to target) host() string {
	if to.url != nil {
		return to.url.Hostname()
	}
	host, _, _ := net.SplitHostPort(to.addr)
	return host
}

// hostPort returns where a WebSocket's server listens.
func (to target) hostPort() string {
	port := to.url.Port()
	switch {
	case port != "":
	case to.secure:
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(to.url.Hostname(), port)
}
