//go:build unix

package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

// behindHAProxy runs a HAProxy that listens at as many addresses as there are
// frontends, and passes connections on as their backends say. It ends with the test.
func behindHAProxy(t *testing.T, dir string, backends []string) (addrs []string) {
	t.Helper()
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("no haproxy is installed (Debian's package haproxy)")
	}
	config := "defaults\n timeout connect 30s\n timeout client 1h\n timeout server 1h\n timeout http-request 1h\n"
	cmd := exec.Command(haproxy, "-db", "-f", filepath.Join(dir, "cfg"))
	for i, backend := range backends {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		f, err := l.(*net.TCPListener).File()
		must(t, err)
		l.Close()
		defer f.Close()
		addrs = append(addrs, l.Addr().String())
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		config += fmt.Sprintf(backend, 3+i)
	}
	must(t, os.WriteFile(filepath.Join(dir, "cfg"), []byte(config), 0o600))
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("haproxy: %s\n%s", log.String(), config)
		}
	})
	return addrs
}

// pemFile makes a file with a certificate and its key.
func pemFile(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret})...)
	must(t, os.WriteFile(path, text, 0o600))
}

// Behind a real HAProxy that passes TCP or TLS on, or ends TLS, or passes WebSocket on, with
// either version of the header, a client is shown by its own address. The proxy's
// health checks are clients like others.
func TestHAProxy(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lockd") // t.TempDir's are too long for a socket's path
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	cert := filepath.Join(dir, "pem")
	pemFile(t, cert)
	s := start(t, server.Options{ProxyProtocol: []string{"127.0.0.0/8", "unix"}, TLS: []string{"127.0.0.1:0"}, TLSCert: cert, TLSKey: cert})
	var within string
	for _, a := range s.Addrs() {
		if a.Transport == "tls" {
			within = a.String()
		}
	}
	tcp := func(bind, to, how string) string {
		return "listen l%[1]d\n mode tcp\n bind fd@%[1]d" + bind + "\n server s " + to + " " + how + " check inter 100ms\n"
	}
	addrs := behindHAProxy(t, dir, []string{
		tcp("", s.tcp, "send-proxy"),
		tcp("", s.tcp, "send-proxy-v2"),
		tcp("", s.tcp, "send-proxy-v2 proxy-v2-options unique-id,crc32c"),
		tcp(" ssl crt "+cert, s.tcp, "send-proxy"),
		tcp(" ssl crt "+cert, s.tcp, "send-proxy-v2-ssl-cn"),
		tcp("", "unix@"+s.unix, "send-proxy-v2"),
		tcp("", within, "send-proxy"), // TLS is the server's
		tcp("", within, "send-proxy-v2"),
		"listen l%[1]d\n mode http\n bind fd@%[1]d\n server s " + s.ws + " send-proxy-v2\n",
	})
	for i, addr := range addrs {
		conn, err := net.Dial("tcp", addr)
		must(t, err)
		a := conn.LocalAddr().String()
		name := fmt.Sprint("lock", i)
		if i == len(addrs)-1 {
			conn.Close()
			w := dialWS(t, "ws://"+addr+"/")
			a = w.LocalAddr().String()
			w.ask("me", "1 "+a+" "+a)
			w.ask("g "+name, "1 Lock Get Success: "+name)
			w.send(message(ws.OpText, "d "+name))
			w.expect(ws.OpText, name+": "+a+"\n")
			w.ask("kick "+a, "0 Not Allowed: kick")
			continue
		}
		if i == 3 || i == 4 || i >= 6 {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		c := newClient(t, conn, nil)
		c.ask("me", "1 "+a+" "+a)
		c.ask("g "+name, "1 Lock Get Success: "+name)
		c.ask("d "+name, name+": "+a)
		c.ask("kick "+a, "0 Not Allowed: kick")
		c.Close() // its end comes through
		c = sent(t, addrs[0], "")
		eventually(t, "the lock", func() bool {
			c.send("i " + name + "\n")
			return c.line() == "0 Lock Not Locked: "+name+"\n"
		})
	}
	accepted := func() int { return metric(t, s.Server, "lockd_connections_accepted_total") }
	before := accepted()
	eventually(t, "health checks", func() bool { return accepted() > before+12 })
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=proxy_header"); n != 0 {
		t.Errorf("%d connections refused", n)
	}
}
