package server_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// Who has shown a certificate needs no token: the role of the name in it counts from
// the first request. A certificate with a name that is in no line is none.
func TestTLSCertificateIsIdentity(t *testing.T) {
	t.Parallel()
	opts := withFiles(newCertFiles(t))
	opts.AuthFile = authFile(t, "web1 lock:deploy/ cert", "ops admin cert")
	s := start(t, opts)
	for _, transport := range []string{"tls", "wss"} {
		as := func(name string) func(request, reply string) {
			config := trusting(clientCert(authority(), name))
			if transport == "wss" {
				c, err := tryWS(t, ws.Dialer{TLSConfig: config}, "wss://"+s.wss+"/")
				must(t, err)
				return c.ask
			}
			conn, err := tls.Dial("tcp", s.tls, config)
			return newClient(t, conn, err).ask
		}
		web, ops, stranger := as("web1"), as("ops"), as("web2")
		web("g other", "0 Not Allowed: g")
		web("g deploy/x", "1 Lock Get Success: deploy/x")
		web("kick 127.0.0.1:1", "0 Not Allowed: kick")
		ops("i deploy/x", "1 Lock Is Locked: deploy/x")
		ops("kick 127.0.0.1:1", "0 No Such Client: 127.0.0.1:1")
		stranger("g deploy/x", "0 Not Authenticated")
		web("r deploy/x", "1 Lock Release Success: deploy/x")
	}
	for _, a := range s.Addrs() {
		if want := a.Transport != "unix"; a.Asks != want {
			t.Errorf("%s asks: %v", a.Transport, a.Asks)
		}
	}
}

// A load balancer that passes TLS on says whose connection it is before the
// handshake.
func TestTLSBehindProxy(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{ProxyProtocol: []string{"127.0.0.0/8"}})
	dial := func(addr, header string) net.Conn {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		_, err = io.WriteString(c, header)
		must(t, err)
		return c
	}
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 1234 5678\r\n"
	newClient(t, tls.Client(dial(s.tls, header), trusting()), nil).ask("me", "1 192.0.2.1:1234 192.0.2.1:1234")
	w, err := tryWS(t, ws.Dialer{
		TLSConfig: trusting(),
		NetDial:   func(context.Context, string, string) (net.Conn, error) { return dial(s.wss, header), nil },
	}, "wss://localhost/")
	must(t, err)
	w.ask("me", "1 192.0.2.1:1234 192.0.2.1:1234")
	// Without a header it comes to nothing, also if the rest is right.
	for _, addr := range []string{s.tls, s.wss} {
		c := tls.Client(dial(addr, ""), trusting())
		if err := c.HandshakeContext(t.Context()); err == nil {
			t.Error("a handshake without a PROXY header")
		}
		c.Close()
	}
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=proxy_header"); n != 2 {
		t.Errorf("%d refusals are counted, not 2", n)
	}
}
