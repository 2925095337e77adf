package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/tlstest"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

func init() {
	transports["tls"] = func(t *testing.T, opts server.Options) client.Options {
		ca := tlstest.New(t, "test CA")
		l := listen(t)
		go newServer(t, opts).Serve(secure(l, ca.Server("127.0.0.1")))
		return client.Options{Target: "tls://" + l.Addr().String(), TLS: &tls.Config{RootCAs: ca.Pool()}}
	}
	transports["wss"] = func(t *testing.T, opts server.Options) client.Options {
		ca := tlstest.New(t, "test CA")
		l := listen(t)
		go newServer(t, opts).ServeWebSocket(secure(l, ca.Server("127.0.0.1")))
		return client.Options{Target: "wss://" + l.Addr().String(), TLS: &tls.Config{RootCAs: ca.Pool()}}
	}
}

// secure has a listener speak TLS.
func secure(l net.Listener, certs ...tls.Certificate) net.Listener {
	return tls.NewListener(l, &tls.Config{Certificates: certs})
}

// askers are the ways to ask a server, each with the error that comes of it.
var askers = map[string]func(*testing.T, client.Options) error{
	"client": func(t *testing.T, opts client.Options) error {
		_, err := start(t, opts).Inspect(within(t), "some lock") // a server of TLS waits for five bytes
		return err
	},
	"locker": func(t *testing.T, opts client.Options) error {
		_, err := locker(t, client.LockerOptions{Options: opts, FailFast: true}).Inspect(within(t), "some lock")
		return err
	},
	"conn": func(t *testing.T, opts client.Options) error {
		c, err := client.Dial(within(t), opts, 2)
		if err == nil {
			c.Close()
		}
		return err
	},
}

// serving has each connection to an address handled, and closed behind that.
func serving(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

// TestTLSErrors: whatever is wrong between a client and a server is said plainly,
// whichever way one asks.
func TestTLSErrors(t *testing.T) {
	ca, other := tlstest.New(t, "test CA"), tlstest.New(t, "other CA")
	good := ca.Server("127.0.0.1", "localhost")
	now := time.Now()
	expired := ca.ServerFrom(now.Add(-2*time.Hour), now.Add(-time.Hour), "127.0.0.1")
	future := ca.ServerFrom(now.Add(2*time.Hour), now.Add(3*time.Hour), "127.0.0.1")
	ours := &tls.Config{RootCAs: ca.Pool()}
	shows := &tls.Config{RootCAs: ca.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c := other.Client("me")
		return &c, nil
	}}
	lockd := func(config *tls.Config) func(t *testing.T, ws bool) string {
		return func(t *testing.T, ws bool) string {
			s, l := newServer(t, server.Options{}), listen(t)
			secured := net.Listener(l)
			if config != nil {
				secured = tls.NewListener(l, config)
			}
			if ws {
				go s.ServeWebSocket(secured)
			} else {
				go s.Serve(secured)
			}
			return l.Addr().String()
		}
	}
	fake := func(handle func(net.Conn)) func(t *testing.T, ws bool) string {
		return func(t *testing.T, _ bool) string { return serving(t, handle) }
	}
	drain := func(conn net.Conn) { io.Copy(io.Discard, conn) }
	wantCert := func(version uint16) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(), MaxVersion: version,
		}
	}
	for name, test := range map[string]struct {
		serve  func(t *testing.T, ws bool) string
		scheme string // tls if empty
		config *tls.Config
		want   string
		cause  error
	}{
		"unknown authority": {lockd(&tls.Config{Certificates: []tls.Certificate{good}}), "", nil,
			`the server's certificate is from an authority that is not trusted here, "CN=test CA": name its CA`, nil},
		"other authority": {lockd(&tls.Config{Certificates: []tls.Certificate{good}}), "", &tls.Config{RootCAs: other.Pool()},
			`the server's certificate is from an authority that is not trusted here, "CN=test CA": name its CA`, nil},
		"wrong name": {lockd(&tls.Config{Certificates: []tls.Certificate{ca.Server("a.example", "b.example", "10.0.0.7")}}), "", ours,
			"the server's certificate is for a.example, b.example, 10.0.0.7, not for 127.0.0.1", nil},
		"many names": {lockd(&tls.Config{Certificates: []tls.Certificate{ca.Server("a", "b", "c", "d", "e", "f", "10.0.0.7")}}), "", ours,
			"the server's certificate is for a, b, c, d, e and 2 more, not for 127.0.0.1", nil},
		"odd name": {lockd(&tls.Config{Certificates: []tls.Certificate{ca.Server("a\x1b[2J.example")}}), "", ours,
			"the server's certificate is for a?[2J.example, not for 127.0.0.1", nil},
		"no name": {lockd(&tls.Config{Certificates: []tls.Certificate{ca.Server()}}), "", ours,
			"the server's certificate is for no host at all, and so not for 127.0.0.1", nil},
		"another name is wanted": {lockd(&tls.Config{Certificates: []tls.Certificate{good}}), "", &tls.Config{RootCAs: ca.Pool(), ServerName: "lock.example"},
			"the server's certificate is for localhost, 127.0.0.1, not for lock.example", nil},
		"expired": {lockd(&tls.Config{Certificates: []tls.Certificate{expired}}), "", ours,
			"the server's certificate has expired on " + expired.Leaf.NotAfter.Format(time.RFC3339), nil},
		"not yet valid": {lockd(&tls.Config{Certificates: []tls.Certificate{future}}), "", ours,
			"the server's certificate is not valid before " + future.Leaf.NotBefore.Format(time.RFC3339) + ", or the clock here is wrong", nil},
		"a client's certificate": {lockd(&tls.Config{Certificates: []tls.Certificate{ca.Client("127.0.0.1")}}), "", &tls.Config{RootCAs: ca.Pool(), ServerName: "x"},
			"the server's certificate is ", nil},
		"wants a certificate, 1.3": {lockd(wantCert(0)), "", ours, "the server wants a client certificate", nil},
		"wants a certificate, 1.2": {lockd(wantCert(tls.VersionTLS12)), "", ours, "the server wants a client certificate", nil},
		"wants another certificate, 1.3": {lockd(wantCert(0)), "", shows,
			"the server does not know the authority that has issued the client certificate", nil},
		"wants another certificate, 1.2": {lockd(wantCert(tls.VersionTLS12)), "", shows,
			"the server does not know the authority that has issued the client certificate", nil},
		"old version": {lockd(&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), "", ours,
			"the server and the client have no version of TLS, or no cipher, in common: protocol version not supported", nil},
		"http": {fake(func(conn net.Conn) { io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") }), "", ours,
			"the server does not speak TLS here", nil},
		"hangs up": {fake(func(conn net.Conn) { conn.Read(make([]byte, 4096)) }), "", ours,
			"the server closed the connection during the TLS handshake: perhaps it does not speak TLS here", io.EOF},
		"silent": {fake(drain), "", ours,
			"no answer to the TLS handshake in time: perhaps the server does not speak TLS here", client.ErrTimeout},
		"speaks TLS": {lockd(&tls.Config{Certificates: []tls.Certificate{good}}), "tcp", nil,
			"the server closed the connection without a word: if it speaks TLS here, use tls://", io.EOF},
		"speaks TLS and says so": {fake(func(conn net.Conn) {
			conn.Read(make([]byte, 4096))
			io.WriteString(conn, "\x15\x03\x01\x00\x02\x02\x0a") // unexpected_message, a newline
		}), "tcp", nil, "the server speaks TLS here: use tls://", nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, ws := range []bool{false, true} {
				addr := test.serve(t, ws)
				opts := client.Options{Target: "tls://" + addr, TLS: test.config, ConnectTimeout: time.Minute}
				want := test.want
				if test.scheme == "tcp" {
					opts.Target = addr
				}
				if ws {
					opts.Target = strings.Replace(opts.Target, "tls://", "wss://", 1)
					if test.scheme == "tcp" {
						opts.Target = "ws://" + addr
					}
					want = strings.Replace(want, "use tls://", "use wss://", 1)
					if strings.Contains(want, "if it speaks TLS") {
						continue // an HTTP server says 400 to it
					}
				}
				if test.cause == client.ErrTimeout {
					opts.ConnectTimeout = 50 * time.Millisecond
				}
				for way, ask := range askers {
					err := ask(t, opts)
					var said *client.TLSError
					if !errors.As(err, &said) || !strings.HasPrefix(said.Reason, want) {
						t.Errorf("%s of %s: got error %v, want %q", way, opts.Target, err, want)
						continue
					}
					if text := err.Error(); !strings.HasSuffix(text, said.Reason) || strings.Count(text, "lockd: ") != 1 {
						t.Errorf("%s of %s: %q", way, opts.Target, text)
					}
					if !errors.Is(err, client.ErrUnreachable) && !strings.Contains(want, "without a word") {
						t.Errorf("%s of %s: %v is no ErrUnreachable", way, opts.Target, err)
					}
					if test.cause != nil && !errors.Is(err, test.cause) {
						t.Errorf("%s of %s: %v is not %v", way, opts.Target, err, test.cause)
					}
				}
			}
		})
	}
}

// TestTLSHTTP: a ws:// target whose server speaks TLS, as Go's HTTP servers do it:
// they say so in plain HTTP.
func TestTLSHTTP(t *testing.T) {
	ca := tlstest.New(t, "test CA")
	l := listen(t)
	s := &http.Server{Handler: http.NotFoundHandler()}
	go s.Serve(secure(l, ca.Server("127.0.0.1")))
	t.Cleanup(func() { s.Close() })
	for way, ask := range askers {
		err := ask(t, client.Options{Target: "ws://" + l.Addr().String()})
		if !errors.As(err, new(*client.TLSError)) || !strings.HasSuffix(err.Error(), "the server speaks TLS here: use wss://") {
			t.Errorf("%s: %v", way, err)
		}
	}
}

// TestTLSShortLine: a server of TLS takes a line of four bytes for the beginning of
// something, and says nothing.
func TestTLSShortLine(t *testing.T) {
	l := listen(t)
	go newServer(t, server.Options{}).Serve(secure(l, tlstest.New(t, "test CA").Server("127.0.0.1")))
	c := start(t, client.Options{Target: l.Addr().String(), ReadTimeout: 50 * time.Millisecond})
	err := c.Get(within(t), "x")
	mustBeLost(t, c, err, client.ErrTimeout)
	if !strings.HasSuffix(err.Error(), "no reply within 50ms: if the server speaks TLS here, use tls://") {
		t.Error(err)
	}
}

// TestTLSNames: it is the target's HOST that the certificate has to be for, also
// where Options.Dial makes the connection, unless the options say otherwise.
func TestTLSNames(t *testing.T) {
	ca := tlstest.New(t, "test CA")
	l := listen(t)
	go newServer(t, server.Options{}).Serve(secure(l, ca.Server("lock.example", "127.0.0.1", "fe80::1")))
	w := listen(t)
	go newServer(t, server.Options{}).ServeWebSocket(secure(w, ca.Server("lock.example", "127.0.0.1", "fe80::1")))
	over := func(l net.Listener) func(context.Context) (net.Conn, error) {
		return func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		}
	}
	for _, test := range []struct {
		target, name string
		dial         net.Listener
		ok           bool
	}{
		{"tls://" + l.Addr().String(), "", nil, true},
		{"tls://" + l.Addr().String(), "lock.example", nil, true},
		{"tls://lock.example:1", "", l, true},
		{"tls://[fe80::1%eth0]:1", "", l, true},
		{"tls://wrong.example:1", "", l, false},
		{"tls://wrong.example:1", "lock.example", l, true},
		{"wss://" + w.Addr().String() + "/locks", "", nil, true},
		{"wss://lock.example", "", w, true},
		{"wss://lock.example:1/", "", w, true},
		{"wss://wrong.example", "", w, false},
	} {
		config := &tls.Config{RootCAs: ca.Pool(), ServerName: test.name}
		opts := client.Options{Target: test.target, TLS: config}
		if test.dial != nil {
			opts.Dial = over(test.dial)
		}
		for way, ask := range askers {
			if err := ask(t, opts); (err == nil) != test.ok {
				t.Errorf("%s of %s, name %q: %v", way, test.target, test.name, err)
			}
		}
		if config.ServerName != test.name {
			t.Errorf("the caller's configuration has changed")
		}
	}
}

// TestTLSTargets: options that make no sense are refused before anything is sent.
func TestTLSTargets(t *testing.T) {
	for target, want := range map[string]string{
		"tls://localhost:9999": "", "tls://9999": "", "wss://localhost:9998/x": "", "wss://localhost": "",
		"tls://localhost": "want HOST:PORT", "wss://": "want wss://HOST:PORT/PATH", "wss://u:secret@localhost": "no meaning here",
		"": "needs tls:// or wss://", "tcp://localhost:9999": "needs tls:// or wss://", "ws://localhost:9998": "needs tls:// or wss://",
		"unix:///s": "needs tls:// or wss://", "ssl://localhost:9999": "want tcp://, tls://, unix://, ws:// or wss://",
	} {
		err := client.Options{Target: target, TLS: &tls.Config{}}.Validate()
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v, want %q", target, err, want)
		}
	}
}

// TestTLSFiles: the client's certificate is read for each connection anew.
func TestTLSFiles(t *testing.T) {
	ca, old := tlstest.New(t, "test CA"), tlstest.New(t, "old CA")
	l := listen(t)
	names := make(chan string, 9)
	go newServer(t, server.Options{}).Serve(tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{ca.Server("127.0.0.1")},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		VerifyConnection: func(s tls.ConnectionState) error {
			names <- s.PeerCertificates[0].Subject.CommonName
			return nil
		},
	}))
	cert, key := old.Files(old.Client("too old"))
	config, err := client.TLSFiles{CA: ca.File(), Cert: cert, Key: key}.Config()
	must(t, err)
	opts := client.Options{Target: "tls://" + l.Addr().String(), TLS: config}
	for way, ask := range askers {
		t.Run(way, func(t *testing.T) { // at whose end a Locker tries no more
			if err := ask(t, opts); err == nil || !strings.Contains(err.Error(), "does not know the authority") {
				t.Error(err)
			}
		})
	}
	for _, name := range []string{"first", "second"} {
		ca.WriteFiles(ca.Client(name), cert, key)
		must(t, askers["client"](t, opts))
		if got := <-names; got != name {
			t.Errorf("the server saw %q, want %q", got, name)
		}
	}
	must(t, os.Remove(key))
	if err := askers["client"](t, opts); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("without the key: %v", err)
	}
}

// TestTLSFilesTogether: certificate and key in one file go together, whenever it is
// replaced.
func TestTLSFilesTogether(t *testing.T) {
	ca, dir := tlstest.New(t, "test CA"), t.TempDir()
	path, next := filepath.Join(dir, "both.pem"), filepath.Join(dir, "next.pem")
	var pairs [2][]byte
	for i := range pairs {
		cert, key := ca.Files(ca.Client("client"))
		text, err := os.ReadFile(cert)
		must(t, err)
		more, err := os.ReadFile(key)
		must(t, err)
		pairs[i] = append(text, more...)
	}
	must(t, os.WriteFile(path, pairs[1], 0o600))
	config, err := client.TLSFiles{Cert: path, Key: path}.Config()
	must(t, err)
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			err := os.WriteFile(next, pairs[i%2], 0o600)
			if err == nil {
				err = os.Rename(next, path)
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	for range 1000 {
		if _, err := config.GetClientCertificate(nil); err != nil {
			t.Error(err)
			break
		}
	}
	close(stop)
	must(t, <-ended)
}

// TestTLSFilesWrong: what is wrong with which file.
func TestTLSFilesWrong(t *testing.T) {
	ca := tlstest.New(t, "test CA")
	cert, key := ca.Files(ca.Client("me"))
	_, otherKey := ca.Files(ca.Client("me"))
	for _, test := range []struct {
		files client.TLSFiles
		want  string
	}{
		{client.TLSFiles{CA: "/nonexistent"}, "CA: open /nonexistent: no such file"},
		{client.TLSFiles{CA: key}, "CA: there is no certificate in " + key},
		{client.TLSFiles{Cert: cert}, "needs its key"},
		{client.TLSFiles{Key: key}, "needs its certificate"},
		{client.TLSFiles{Cert: cert, Key: otherKey}, "client certificate " + cert + " with key " + otherKey + ": private key does not match"},
		{client.TLSFiles{Cert: "/nonexistent", Key: key}, "open /nonexistent: no such file"},
	} {
		config, err := test.files.Config()
		if config != nil || err == nil || !strings.HasPrefix(err.Error(), "lockd: ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.files, err, test.want)
		}
	}
	// Without TLS there is no certificate to show, and no name to look at.
	none := client.TLSFiles{Cert: "/nonexistent", Key: "/nonexistent"}
	for _, target := range []string{"", "tcp://localhost:1", "ws://localhost", "unix:///s"} {
		if config, err := none.For(target); config != nil || err != nil {
			t.Errorf("%q: %v, %v", target, config, err)
		}
		config, err := client.TLSFiles{CA: ca.File()}.For(target)
		if config != nil || (err == nil) != strings.HasPrefix(target, "unix") {
			t.Errorf("%q with a CA: %v, %v", target, config, err)
		}
	}
}

// TestFromEnv: the variables are those of the tools.
func TestFromEnv(t *testing.T) {
	ca := tlstest.New(t, "test CA")
	cert, key := ca.Files(ca.Client("me"))
	for name, value := range map[string]string{
		"LOCKD_SERVER": "tls://127.0.0.1:9999", "LOCKD_TLS_CA": ca.File(), "LOCKD_CLIENT_CERT": cert, "LOCKD_CLIENT_KEY": key,
		"LOCKD_TLS_SERVER_NAME": "lock.example", "LOCKD_TOKEN_FILE": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	opts, err := client.FromEnv("")
	must(t, err)
	if opts.Target != "tls://127.0.0.1:9999" || opts.TLS.ServerName != "lock.example" || opts.TLS.RootCAs == nil || opts.TLS.GetClientCertificate == nil {
		t.Errorf("%+v", opts)
	}
	if _, err := opts.Token(within(t)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if opts, err := client.FromEnv("unix:///s"); err != nil || opts.Target != "unix:///s" || opts.TLS != nil || opts.Token == nil {
		t.Errorf("%+v, %v", opts, err)
	}
	t.Setenv("LOCKD_SERVER", "")
	if _, err := client.FromEnv(""); err == nil {
		t.Error("a CA for a target without TLS was let pass")
	}
	t.Setenv("LOCKD_TLS_CA", "")
	t.Setenv("LOCKD_TLS_SERVER_NAME", "")
	t.Setenv("LOCKD_TOKEN_FILE", "")
	if opts, err := client.FromEnv(""); err != nil || opts.Target != "" || opts.TLS != nil || opts.Token != nil {
		t.Errorf("%+v, %v", opts, err)
	}
}
