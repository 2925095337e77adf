package conn

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/tlstest"
)

var testAuthority = sync.OnceValue(func() *certs.Authority {
	a, err := certs.NewAuthority("tests", time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		panic(err)
	}
	return a
})

var serverTLS = sync.OnceValue(func() *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{tlstest.Certificate(testAuthority().Server([]string{"localhost"}, time.Now(), time.Now().Add(time.Hour)))},
		ClientCAs:              tlstest.Pool(testAuthority()),
		ClientAuth:             tls.VerifyClientCertIfGiven,
		SessionTicketsDisabled: true,
	}
})

func clientTLS(own ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: tlstest.Pool(testAuthority()), ServerName: "localhost", Certificates: own}
}

// serveTLS has a server listen with TLS, until the test ends.
func serveTLS(t *testing.T, h *Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- h.ServeTLS(NewListener(ln, h.cfg.Logger), serverTLS()) }()
	t.Cleanup(func() {
		ln.Close()
		<-served
		drainNow(h)
	})
	return ln.Addr().String()
}

// The name in a client's certificate is part of its address, whatever carries it,
// and only if it was verified.
func TestCertificateNameOfAddress(t *testing.T) {
	own := tlstest.Certificate(testAuthority().Client("web1", time.Now(), time.Now().Add(time.Hour)))
	for _, c := range []struct {
		name   string
		config *tls.Config
		want   string
	}{
		{"none", clientTLS(), ""},
		{"one", clientTLS(own), "web1"},
	} {
		for _, network := range []string{"tcp", "memory"} {
			t.Run(c.name+" "+network, func(t *testing.T) {
				client, server := net.Conn(nil), net.Conn(nil)
				if network == "memory" {
					client, server = Pipe()
				} else {
					ln, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					defer ln.Close()
					if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
						t.Fatal(err)
					}
					if server, err = ln.Accept(); err != nil {
						t.Fatal(err)
					}
				}
				defer client.Close()
				defer server.Close()
				shaken := make(chan error, 1)
				go func() { shaken <- tls.Client(client, c.config).Handshake() }()
				over := tls.Server(server, serverTLS())
				if err := errors.Join(over.Handshake(), <-shaken); err != nil {
					t.Fatal(err)
				}
				a := address(over, TLS)
				if a.Cert != c.want || !a.Local {
					t.Errorf("got %+v, want the name %q of a client on this machine", a, c.want)
				}
			})
		}
	}
	unverified := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{own.Leaf}}
	if got := CertName(unverified); got != "" {
		t.Errorf("a certificate that nobody verified has the name %q", got)
	}
	if got := CertName(nil); got != "" {
		t.Errorf("no TLS has the name %q", got)
	}
}

// Without a common name it is the first DNS name, and then the first URI.
func TestCertNameWithoutCommonName(t *testing.T) {
	uri, err := url.Parse("spiffe://example.org/web1")
	if err != nil {
		t.Fatal(err)
	}
	for want, leaf := range map[string]*x509.Certificate{
		"web1.example.org":          {DNSNames: []string{"web1.example.org", "x"}, URIs: []*url.URL{uri}},
		"spiffe://example.org/web1": {URIs: []*url.URL{uri}},
		"":                          {},
	} {
		state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if got := CertName(state); got != want {
			t.Errorf("got %q, not %q", got, want)
		}
	}
}

// When all places are taken by handshakes that hang, the next one gets in when the
// oldest has had its time; that one is closed, the others are not.
func TestHandshakeTakesTheOldestsPlace(t *testing.T) {
	cfg := testConfig()
	cfg.MaxHandshakes = 3
	h := NewServer(cfg)
	addr := serveTLS(t, h)
	var hanging []net.Conn
	for i := range cfg.MaxHandshakes {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		hanging = append(hanging, c)
		for len(h.handshakes.places) != i+1 { // so that it is known who came first
			time.Sleep(time.Millisecond)
		}
	}
	c, err := tls.Dial("tcp", addr, clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "ping\n")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "1 pong\n" {
		t.Fatalf("%q, %v", line, err)
	}
	hanging[0].SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := hanging[0].Read(make([]byte, 1)); err != io.EOF && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the oldest is there yet: %v", err)
	}
	if n := len(h.handshakes.places); n != 2 {
		t.Errorf("%d handshakes are under way, not 2", n)
	}
}

// Those that come to nothing do not fill the log, and those of clients that just go
// are not in it.
func TestFailedHandshakesAreLoggedRarely(t *testing.T) {
	var lines logLines
	cfg := testConfig()
	cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
	h := NewServer(cfg)
	addr := serveTLS(t, h)
	const n = 100
	for i := range 2 * n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if i >= n {
			io.WriteString(c, "g foo\n")
			io.Copy(io.Discard, c)
		}
		c.Close()
	}
	for h.admission.refused[failedHandshake].Load() < 2*n {
		time.Sleep(time.Millisecond)
	}
	found := lines.with("TLS handshake")
	if len(found) == 0 || len(found) > n/10 || !strings.Contains(found[0], "first record does not look like a TLS handshake") {
		t.Errorf("%d lines: %q", len(found), found)
	}
}

// However many handshakes are under way, few compute at a time, and one that waits
// for its client does not count.
func TestFewHandshakesCompute(t *testing.T) {
	var hs handshakes
	hs.init(4)
	most := cap(hs.computing)
	var all []*handshake
	for range most + 1 {
		near, far := Pipe()
		defer far.Close()
		io.WriteString(far, "x")
		all = append(all, &handshake{Conn: near, computing: hs.computing})
	}
	for _, s := range all[:most] {
		s.Read(make([]byte, 1)) // and compute
	}
	read := make(chan struct{})
	go func() { all[most].Read(make([]byte, 1)); close(read) }()
	select {
	case <-read:
		t.Fatal("one more computes")
	case <-time.After(50 * time.Millisecond):
	}
	go all[0].Read(make([]byte, 1)) // which waits for its client
	<-read
	all[most].over()
	if n := len(hs.computing); n != most-1 {
		t.Errorf("%d compute, not %d", n, most-1)
	}
	all[0].Close()
}

// A listener that fails leaves no handshake, and no connection that nobody took.
func TestSecureEnds(t *testing.T) {
	h := NewServer(testConfig())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := h.Secure(NewListener(ln, h.cfg.Logger), serverTLS())
	var accepted sync.WaitGroup
	accepted.Go(func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
	})
	for range 2 { // the second one is taken by nobody
		c, err := tls.Dial("tcp", ln.Addr().String(), clientTLS())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	hangs, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	for len(h.handshakes.places) == 0 {
		time.Sleep(time.Millisecond)
	}
	accepted.Wait()
	l.Close()
	for range 2 {
		// There may be one that was ready.
		if c, err := l.Accept(); err == nil {
			c.Close()
		} else if !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
	if n := len(h.handshakes.places); n != 0 {
		t.Errorf("%d handshakes are left", n)
	}
	if err := h.Drain(context.Background()); err != nil {
		t.Error(err)
	}
}

// Nor does one line of the log have as much as a client likes to say.
func TestFailedHandshakeIsLoggedShortly(t *testing.T) {
	cfg := testConfig()
	lines := logTo(&cfg)
	config := serverTLS().Clone()
	config.NextProtos = []string{"lockd"}
	h := NewServer(cfg)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- h.ServeTLS(NewListener(ln, cfg.Logger), config) }()
	defer func() {
		ln.Close()
		<-served
		drainNow(h)
	}()
	offer := clientTLS()
	for range 100 {
		offer.NextProtos = append(offer.NextProtos, strings.Repeat("\x1b", 250))
	}
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if tls.Client(c, offer).Handshake() == nil {
		t.Fatal("there is no protocol for both")
	}
	lines.await(t, "TLS handshakes fail", 1)
	for _, line := range lines.with("") {
		if len(line) > 5000 {
			t.Errorf("%d bytes: %.300s", len(line), line)
		}
	}
}

// Of several common names none counts: whoever has signed the certificate may have
// looked at another one than we would.
func TestCertNameOfSeveral(t *testing.T) {
	name := func(cn string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: commonName, Value: cn}
	}
	for want, names := range map[string][]pkix.AttributeTypeAndValue{
		"": {name("guest"), name("ops")}, "ops": {{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "guest"}, name("ops")},
	} {
		leaf := &x509.Certificate{Subject: pkix.Name{CommonName: "ops", Names: names}, DNSNames: []string{"ops.example.org"}}
		state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		if got := CertName(state); got != want {
			t.Errorf("got %q, not %q", got, want)
		}
	}
}
