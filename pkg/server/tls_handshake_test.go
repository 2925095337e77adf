package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/tlstest"
	"github.com/nylen/lockd/pkg/server"
)

// withFiles are options with a certificate from files, and the clients' authority.
func withFiles(f *certFiles) server.Options {
	return server.Options{TLSCert: f.cert, TLSKey: f.key, TLSClientCA: f.ca}
}

// refusal returns how a client is turned away: TLS 1.3 tells it what is wrong with
// its certificate only when it reads.
func refusal(tb testing.TB, addr string, config *tls.Config) error {
	tb.Helper()
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(giveUp))
	c.Write([]byte("g stolen\n"))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil {
		tb.Fatalf("got %q", line)
	}
	return err
}

// With an authority of clients, who shows no certificate of its gets an alert, and
// nothing of what it sends is executed.
func TestTLSClientCertificates(t *testing.T) {
	t.Parallel()
	s := start(t, withFiles(newCertFiles(t)))
	now := time.Now()
	a := authority()
	for what, c := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"none":               {trusting(), "certificate required"},
		"another authority":  {trusting(clientCert(newAuthority(), "web1")), "certificate"},
		"expired":            {trusting(tlstest.Certificate(a.Client("web1", now.Add(-48*time.Hour), now.Add(-24*time.Hour)))), "certificate"},
		"not valid yet":      {trusting(tlstest.Certificate(a.Client("web1", now.Add(24*time.Hour), now.Add(48*time.Hour)))), "certificate"},
		"one for servers":    {trusting(serverCert()), "certificate"},
		"signed by a client": {trusting(tlstest.Certificate(a.Server(nil, now, now.Add(time.Hour)))), "certificate"},
	} {
		// A client of Go chooses none that the server does not ask for.
		forced := c.config.Clone()
		if len(forced.Certificates) > 0 {
			forced.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &c.config.Certificates[0], nil
			}
		}
		for _, addr := range []string{s.tls, s.wss} {
			if err := refusal(t, addr, forced); !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, which does not speak of %q", what, err, c.want)
			}
		}
	}
	good := trusting(clientCert(a, "web1"))
	conn, err := tls.Dial("tcp", s.tls, good)
	c := newClient(t, conn, err)
	c.ask("i stolen", "0 Lock Not Locked: stolen")
	w, err := tryWS(t, ws.Dialer{TLSConfig: good}, "wss://"+s.wss+"/")
	must(t, err)
	w.ask("i stolen", "0 Lock Not Locked: stolen")
	eventually(t, "12 refusals are counted", func() bool { // each when its client has been told
		return metric(t, s.Server, "lockd_rejected_total", "reason=tls_handshake") == 12
	})
	for _, transport := range []string{"tls", "wss"} {
		if n := metric(t, s.Server, "lockd_connections", "transport="+transport); n != 1 {
			t.Errorf("%d connections by %s, not 1", n, transport)
		}
	}
}

// TLS 1.3 alone, unless 1.2 is asked for, and that with good suites only.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	for _, c := range []struct {
		name   string
		least  uint16 // of the server
		most   uint16 // of the client
		suites []uint16
		ok     bool
	}{
		{"1.3", 0, tls.VersionTLS13, nil, true},
		{"1.2", 0, tls.VersionTLS12, nil, false},
		{"1.2 asked for", tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{"1.3 where 1.2 is enough", tls.VersionTLS12, tls.VersionTLS13, nil, true},
		{"1.1", tls.VersionTLS12, tls.VersionTLS11, nil, false},
		{"CBC", tls.VersionTLS12, tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, server.Options{TLSCert: f.cert, TLSKey: f.key, TLSMinVersion: c.least})
			config := trusting()
			config.MinVersion, config.MaxVersion, config.CipherSuites = tls.VersionTLS10, c.most, c.suites
			conn, err := tls.Dial("tcp", s.tls, config)
			if (err == nil) != c.ok {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				newClient(t, conn, nil).ask("g foo", "1 Lock Get Success: foo")
			}
		})
	}
}

// A browser's page cannot have its browser send requests to a port for lines:
// browsers say that they speak HTTP. Clients that say nothing are let in, and
// those that say `lockd`.
func TestTLSProtocols(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	s := start(t, server.Options{TLSCert: f.cert, TLSKey: f.key})
	for _, c := range []struct {
		addr    string
		offered []string
		want    string
		ok      bool
	}{
		{s.tls, nil, "", true},
		{s.tls, []string{"lockd"}, "lockd", true},
		{s.tls, []string{"h2", "http/1.1"}, "", false},
		{s.tls, []string{"http/1.1"}, "", false},
		{s.wss, []string{"http/1.1"}, "http/1.1", true},
		{s.wss, []string{"h2", "http/1.1"}, "http/1.1", true},
		{s.wss, nil, "", true},
	} {
		config := trusting()
		config.NextProtos = c.offered
		conn, err := tls.Dial("tcp", c.addr, config)
		if (err == nil) != c.ok {
			t.Errorf("%q: got %v", c.offered, err)
		}
		if err == nil {
			if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
				t.Errorf("%q: got %q, not %q", c.offered, got, c.want)
			}
			conn.Close()
		}
	}
}

// Who speaks something else to a TLS port is not served: requests are not executed,
// HTTP gets an answer in HTTP.
func TestTLSPlainText(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for _, addr := range []string{s.tls, s.wss} {
		c, err := net.Dial("tcp", addr)
		p := newClient(t, c, err)
		p.send("g foo\n")
		p.end()
		if status := get(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusBadRequest {
			t.Errorf("status %d", status)
		}
	}
	s.dial(t, "tcp").ask("i foo", "0 Lock Not Locked: foo")
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=tls_handshake"); n != 4 {
		t.Errorf("%d refusals are counted, not 4", n)
	}
}

// openssl is a client of another make.
func TestTLSOpenSSL(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl here")
	}
	f := newCertFiles(t)
	own, err := authority().Client("web1", time.Now(), time.Now().Add(time.Hour))
	must(t, err)
	f.put(f.dir+"/client.pem", append(own.Cert, own.Key...))
	s := start(t, withFiles(f))
	ctx, cancel := context.WithTimeout(t.Context(), giveUp)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-connect", s.tls, "-servername", "localhost", "-verify_hostname", "localhost",
		"-CAfile", f.ca, "-cert", f.dir+"/client.pem", "-verify_return_error", "-quiet")
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	_, err = io.WriteString(in, "g foo\r\ni foo\nbye\n")
	must(t, err)
	got, err := io.ReadAll(out)
	must(t, err)
	if want := "1 Lock Get Success: foo\n1 Lock Is Locked: foo\n1 bye\n"; string(got) != want {
		t.Errorf("got %q, not %q", got, want)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("openssl: %v", err)
	}
}

// Handshakes that hang, many more than there are places: holders do not notice,
// plain clients get in, and so do those of TLS, as the hanging ones give way. In the
// end all of them are gone.
func TestTLSHangingHandshakes(t *testing.T) {
	t.Parallel()
	hanging := 10_000
	hanging = min(hanging, server.OpenFiles()/4) // both ends are in this process
	s := start(t, server.Options{})
	holders := []*client{s.dial(t, "tls"), s.dial(t, "tcp")}
	holders[0].ask("g tls", "1 Lock Get Success: tls")
	holders[1].ask("g tcp", "1 Lock Get Success: tcp")

	// Half of them send nothing, half a part of a message.
	var all []net.Conn
	var mu sync.Mutex
	defer func() {
		for _, c := range all {
			c.Close()
		}
	}()
	var dialing sync.WaitGroup
	for i := range 50 {
		dialing.Go(func() {
			for j := range hanging / 50 {
				c, err := net.DialTimeout("tcp", []string{s.tls, s.wss}[i%2], giveUp)
				if err != nil {
					t.Error(err)
					return
				}
				if j%2 == 0 {
					io.WriteString(c, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
				}
				mu.Lock()
				all = append(all, c)
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { dialing.Wait(); close(done) }()
	for {
		holders[0].ask("i tls", "1 Lock Is Locked: tls")
		holders[1].ask("i tcp", "1 Lock Is Locked: tcp")
		c := s.dial(t, "tcp")
		c.ask("i tcp", "1 Lock Is Locked: tcp")
		c.Close()
		select {
		case <-done:
		default:
			continue
		}
		break
	}
	c := s.dial(t, "tls")
	c.ask("i tls", "1 Lock Is Locked: tls")
	eventually(t, "all of them gone", func() bool {
		return metric(t, s.Server, "lockd_rejected_total", "reason=tls_handshake") == len(all)
	})
	for _, c := range all {
		c.SetReadDeadline(time.Now().Add(giveUp))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("one is there yet: %v", err)
		}
	}
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_connections"); n != 0 {
		t.Errorf("%d connections were refused", n)
	}
	holders[0].ask("r tls", "1 Lock Release Success: tls")
	holders[1].ask("r tcp", "1 Lock Release Success: tcp")
}

// A server that shuts down leaves no handshake behind.
func TestTLSShutdownWhileShaking(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for _, addr := range []string{s.tls, s.wss} {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer c.Close()
	}
	must(t, s.Shutdown(t.Context()))
}

// The admin address within TLS. Whoever probes it needs no certificate.
func TestAdminTLS(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	opts := withFiles(f)
	opts.Admin, opts.AdminTLS = "127.0.0.1:0", true
	s := listen(t, opts)
	admin := s.Addrs()[0].String()
	for _, config := range []*tls.Config{trusting(), trusting(clientCert(authority(), "prometheus"))} {
		h := http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: giveUp}
		resp, err := h.Get("https://" + admin + "/metrics")
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if !strings.Contains(string(body), "\nlockd_tls_certificate_expiry_timestamp_seconds ") {
			t.Errorf("no metric of the certificate's end:\n%s", body)
		}
	}
	if status := get(t, admin, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusBadRequest {
		t.Errorf("without TLS: status %d", status)
	}
}

// What cannot work is said before anything listens.
func TestTLSOptions(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	f.put(f.dir+"/other.pem", mustPair(authority().Client("x", time.Now(), time.Now())).Key)
	f.put(f.dir+"/encrypted.pem", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	addr := []string{"127.0.0.1:0"}
	for want, opts := range map[string]server.Options{
		"tls: needs the server's certificate":              {TLS: addr},
		"wss: needs the server's certificate":              {WSS: addr},
		"admin-tls: needs the server's certificate":        {Admin: addr[0], AdminTLS: true},
		"admin-tls: there is no admin address":             {AdminTLS: true, TLSCert: f.cert, TLSKey: f.key},
		"tls-cert: needs the certificate's key":            {TLSCert: f.cert},
		"tls-key: needs the key's certificate":             {TLSKey: f.key},
		"tls-client-ca: needs the server's certificate":    {TLSClientCA: f.ca},
		"tls-min-version: must be 1.2 or 1.3, not TLS 1.":  {TLSCert: f.cert, TLSKey: f.key, TLSMinVersion: tls.VersionTLS11},
		"tls-cert: there is a TLSConfig":                   {TLSCert: f.cert, TLSKey: f.key, TLSConfig: anybody()},
		"tls-cert: cannot read " + f.dir + "/none: no su":  {TLSCert: f.dir + "/none", TLSKey: f.key},
		"tls-key: cannot read " + f.dir + "/none: no suc":  {TLSCert: f.cert, TLSKey: f.dir + "/none"},
		"tls-key: the key in " + f.dir + "/other.pem is ":  {TLSCert: f.cert, TLSKey: f.dir + "/other.pem"},
		"tls-key: " + f.dir + "/encrypted.pem is encrypt":  {TLSCert: f.cert, TLSKey: f.dir + "/encrypted.pem"},
		"tls-cert: cannot use the certificate in " + f.ca:  {TLSCert: f.ca, TLSKey: f.cert},
		"tls-client-ca: " + f.dir + "/other.pem has no ce": {TLSCert: f.cert, TLSKey: f.key, TLSClientCA: f.dir + "/other.pem"},
		`tls: "nowhere": want [HOST:]PORT`:                 {TLSCert: f.cert, TLSKey: f.key, TLS: []string{"nowhere"}},
	} {
		if s, err := server.New(opts); err == nil {
			s.Shutdown(canceled())
			t.Errorf("nothing is wrong, where there should be: %s", want)
		} else if !strings.HasPrefix(err.Error(), "lockd: "+want) {
			t.Errorf("got  %v\nwant lockd: %s", err, want)
		}
	}
	s := newServer(t, server.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	if err := s.ServeTLS(l); err == nil || !strings.Contains(err.Error(), "needs the server's certificate") {
		t.Errorf("ServeTLS without a certificate: %v", err)
	}
}
