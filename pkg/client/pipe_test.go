package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// pipes is a listener whose connections are net.Pipes: unlike a socket, they
// hold nothing, so who writes waits until the other end reads.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "pipe"} }

// dial is for client.Options.
func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func overPipes(t *testing.T, opts server.Options) client.Options {
	p := newPipes()
	go newServer(t, opts).Serve(p)
	return client.Options{Dial: p.dial}
}

func webSocketOverPipes(t *testing.T, opts server.Options) client.Options {
	p := newPipes()
	go newServer(t, opts).ServeWebSocket(p)
	return client.Options{Target: "ws://pipe", Dial: p.dial}
}

// tlsOverPipes leaves the TLS handshake to whoever reads or writes first.
func tlsOverPipes(t *testing.T, opts server.Options) client.Options {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	of := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"lockd"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	must(t, err)
	parsed, err := x509.ParseCertificate(cert)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	p := newPipes()
	go newServer(t, opts).Serve(tls.NewListener(p, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
	}))
	return client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		conn, err := p.dial(ctx)
		if err != nil {
			return nil, err
		}
		return tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "lockd"}), nil
	}}
}

// TestPipeBeats: over a connection that holds nothing, both ends may be writing
// at any time: heartbeats and requests, for hours.
func TestPipeBeats(t *testing.T) {
	for name, over := range map[string]func(*testing.T, server.Options) client.Options{
		"lines": overPipes, "ws": webSocketOverPipes, "tls": tlsOverPipes,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := locker(t, client.LockerOptions{Options: over(t, server.Options{})})
				for range 3 {
					lock, err := l.Acquire(within(t), "x")
					must(t, err)
					time.Sleep(time.Hour)
					must(t, lock.Release(within(t)))
				}
			})
		})
	}
}

// TestPipeFull: a server over its bound on connections says so before it has
// read a word.
func TestPipeFull(t *testing.T) {
	opts := overPipes(t, server.Options{MaxConnections: 1})
	must(t, start(t, opts).Get(within(t), "x"))
	l := locker(t, client.LockerOptions{Options: opts, FailFast: true})
	mustBe(t, l.Ready(within(t)), client.ErrTooManyConnections)
}

// lineByLine is a server's end of a connection. It takes a line, answers it,
// and does not look at what follows before the answer was read.
func lineByLine(conn net.Conn, answer func(line string) string) {
	defer conn.Close()
	var line strings.Builder
	for b := make([]byte, 1); ; {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if b[0] != '\n' {
			line.WriteByte(b[0])
			continue
		}
		if reply := answer(line.String()); reply != "" {
			if _, err := conn.Write([]byte(reply)); err != nil {
				return
			}
		}
		line.Reset()
	}
}

// TestPipeLineByLine: a Locker gets along with a server that takes nothing
// before its last reply was read, whichever protocol it speaks.
func TestPipeLineByLine(t *testing.T) {
	for name, answers := range map[string]map[string]string{
		"protocol 2": {
			"ping": "1 pong\n", "hello": "2 lockd test\n", "0 ping": "0 1 pong\n", "0 iam": "0 1 ok\n",
			"1 g": "1 7 Lock Get Success: x\n", "1 r": "1 1 Lock Release Success: x\n",
		},
		"protocol 1": {"g": "1 Lock Get Success: x\n", "r": "1 Lock Release Success: x\n", "iam": "1 ok\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := locker(t, client.LockerOptions{Options: client.Options{Dial: func(context.Context) (net.Conn, error) {
					near, far := net.Pipe()
					go lineByLine(far, func(line string) string {
						if name, ok := strings.CutPrefix(line, "i "); ok {
							return "0 Lock Not Locked: " + name + "\n"
						}
						for request, reply := range answers {
							if line == request || strings.HasPrefix(line, request+" ") {
								return reply
							}
						}
						return ""
					})
					return near, nil
				}}})
				for range 3 {
					lock, err := l.TryAcquire(within(t), "x")
					must(t, err)
					time.Sleep(time.Hour)
					must(t, lock.Release(within(t)))
				}
			})
		})
	}
}

// TestPipeMute: a peer that does not read keeps neither a Locker from closing
// nor the handshake from its end.
func TestPipeMute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial := func(context.Context) (net.Conn, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { far.Close() })
			return near, nil
		}
		for _, target := range []string{"", "ws://pipe"} {
			opts := client.Options{Target: target, Dial: dial}
			l := locker(t, client.LockerOptions{Options: opts, FailFast: true})
			mustBe(t, l.Ready(within(t)), client.ErrTimeout)
			l.Close()
			l = locker(t, client.LockerOptions{Options: opts})
			synctest.Wait() // in the middle of the handshake
			l.Close()
		}
	})
}
