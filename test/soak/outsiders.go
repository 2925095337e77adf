//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/certs"
)

// pry asks for what is not within the role, and must not be told.
func (a *actor) pry(ctx context.Context) error {
	l, err := a.connect(a.rnd.IntN(2) == 0, "lock", "read", "")
	if err != nil {
		return err
	}
	defer l.Close()
	if l.who.how == byWrong {
		for range 1 + a.rnd.IntN(2) {
			if n, text, err := l.ask(0, "auth wrong-token"); n != 0 || text != "Auth Failed" {
				return breach{fmt.Errorf("a wrong token is answered %d %q, %v", n, text, err)}
			}
			a.tally.add(a.kind, "denials")
		}
	}
	taking := []string{"g", "r", "sg", "sr", "sgl 1", "gw 1", "sgw 1 1", "t", "rl 1 1 1"}
	looking := []string{"i", "si", "look", "ri 1 1"}
	var requests []string
	for _, verb := range append(taking, looking...) {
		requests = append(requests, verb+" "+secretName)
	}
	lists := []string{"d", "d " + secretName, "sd", "sd " + secretName, "dump", "dump shared", "who", "who " + guardian, "q", "look*", "look* secret/", "look* " + prefix, "losses 9", "losses 9 " + secretName}
	ruling := []string{"kick 127.0.0.1:1", "rd " + secretName, "rd " + prefix + "rate"}
	want := "Not Allowed: "
	switch {
	case l.who.is("lock"):
		requests = append(requests, append(lists, ruling...)...)
	case l.who.is("read"):
		requests = nil
		for _, verb := range taking {
			requests = append(requests, verb+" "+a.one(a.locks).name)
		}
		requests = append(requests, ruling...)
	default:
		requests = append(requests, append(append(lists, ruling...), "me", "iam x", "g "+a.one(a.locks).name, "i "+a.one(a.locks).name)...)
		want = "Not Authenticated"
	}
	for range 10 {
		if ctx.Err() != nil {
			break
		}
		request := requests[a.rnd.IntN(len(requests))]
		n, text, err := l.ask(a.rnd.IntN(3), request)
		if err != nil {
			return err
		}
		verb, _, _ := strings.Cut(request, " ")
		if told := strings.TrimSuffix(want, ": "); n != 0 || want == told && text != want || want != told && text != want+verb {
			return breach{fmt.Errorf("%v, whose role is %q, asks %s and is told %d %q", l.who, l.who.role, request, n, text)}
		}
		a.tally.add(a.kind, "denials")
	}
	return nil
}

// handshakeEnd is when the server has to have ended a handshake that goes nowhere,
// however busy the machine is.
const handshakeEnd = patience

// hang begins handshakes and does not go on. Either side ends it.
func (a *actor) hang(ctx context.Context) error {
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range 8 {
		target, begin := a.at.TLS, [][]byte{nil, {0x16}, []byte("\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03half a hello")}[a.rnd.IntN(3)]
		switch a.rnd.IntN(3) {
		case 0:
			target = a.at.WSS
		case 1:
			target, begin = a.at.WebSocket, []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgra")
		}
		c, err := net.DialTimeout("tcp", target, patience)
		if err != nil {
			return err
		}
		open = append(open, c)
		c.Write(begin)
		a.tally.add(a.kind, "hung")
	}
	if a.rnd.IntN(2) == 0 {
		pause(ctx, time.Duration(a.rnd.Int64N(int64(2*time.Second))))
		return nil
	}
	for _, c := range open {
		if err := ends(c, handshakeEnd); err != nil {
			return err
		}
	}
	return nil
}

// ends reads until the other side ends a connection that it never should have taken
// for a client's.
func ends(c net.Conn, within time.Duration) error {
	c.SetDeadline(time.Now().Add(within))
	got, err := io.ReadAll(io.LimitReader(c, 64<<10))
	if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
		return breach{fmt.Errorf("who is nobody's client keeps a connection to %v", c.RemoteAddr())}
	}
	for _, word := range []string{" 101 ", "Lock Get", "pong", secretName} {
		if strings.Contains(string(got), word) {
			return breach{fmt.Errorf("who is nobody's client is told %q", got)}
		}
	}
	return nil
}

// turnAway comes as somebody who is not let in at all.
func (a *actor) turnAway(context.Context) error {
	take := "g " + a.one(a.locks).name + "\n"
	page := func(method, host, origin string) string {
		return method + " / HTTP/1.1\r\nHost: " + host + "\r\nOrigin: http://" + origin + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	}
	type visit struct {
		address, text string
		config        func() (*tls.Config, error)
	}
	all := []visit{
		{a.at.TCP, "\x16\x03\x01\x02\x00\x01\n" + take, nil}, // TLS where there is none
		{a.at.TLS, take, nil},
		{a.at.WSS, page("GET", "127.0.0.1", "127.0.0.1") + "\r\n", nil},
		{a.at.WebSocket, page("GET", "127.0.0.1", "evil.example") + "\r\n", nil},
		{a.at.WebSocket, page("GET", "evil.example", "evil.example") + "\r\n", nil},
		{a.at.WebSocket, page("POST", "127.0.0.1", "evil.example") + "Content-Length: 100000\r\n\r\n", nil}, // that never come
		{a.at.Admin, "GET /metrics HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", nil},
	}
	if !a.at.Open {
		all = append(all, visit{a.at.TLS, take + "ping\n", a.withoutCertificate}, visit{a.at.TLS, take + "ping\n", a.withForgedCertificate},
			visit{a.at.WSS, page("GET", "127.0.0.1", "127.0.0.1") + "\r\n", a.withoutCertificate})
	}
	c := all[a.rnd.IntN(len(all))]
	conn, err := net.DialTimeout("tcp", c.address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	if c.config != nil {
		config, err := c.config()
		if err != nil {
			return err
		}
		conn = tls.Client(conn, config)
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, c.text) // may fail: it is turned away
	a.tally.add(a.kind, "turned away")
	return ends(conn, patience)
}

func (a *actor) withoutCertificate() (*tls.Config, error) {
	config, err := identities[0].tls(a.at)
	if err == nil {
		config.GetClientCertificate = nil
	}
	return config, err
}

// withForgedCertificate has one with an administrator's name, by an authority of its
// own.
func (a *actor) withForgedCertificate() (*tls.Config, error) {
	config, err := identities[0].tls(a.at)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	by, err := certs.NewAuthority("lockd soak, clients", now, now.Add(lifetime))
	if err != nil {
		return nil, err
	}
	pair, err := by.Client("owner", now, now.Add(lifetime))
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	return config, err
}

// tokenNow is the token that somebody has now.
func (a *actor) tokenNow(id identity) string {
	text, _ := os.ReadFile(a.at.file(id.name + ".token"))
	return string(text)
}
