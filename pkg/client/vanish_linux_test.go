package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestHolderKnowsFirst: whatever cuts a holder off, and whatever it is at, it knows
// that it has lost its lock before anybody else has got it.
func TestHolderKnowsFirst(t *testing.T) {
	for _, way := range netlab.Ways {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			lab := netlab.New(t)
			targets := serveNear(t, lab, 2*time.Second)
			near := locker(t, client.LockerOptions{Options: at(lab.AtNear, targets["tcp"], false), Anonymous: true})

			lost := make(map[string]<-chan struct{}) // by the name of the lock
			for _, transport := range []string{"tcp", "tls", "websocket"} {
				options := at(lab.AtFar, targets[transport], transport == "tls")
				for _, busy := range []string{"idle", "granted", "timed-out"} {
					name := transport + "-" + busy
					l := locker(t, client.LockerOptions{Options: options, Anonymous: true})
					lock, err := l.Acquire(within(t), name)
					must(t, err)
					lost[name] = lock.Lost()
					if busy == "idle" {
						continue
					}
					blocker, err := near.Acquire(within(t), "b-"+name)
					must(t, err)
					ctx, cancel := context.WithCancel(within(t))
					t.Cleanup(cancel)
					if busy == "timed-out" {
						ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
						t.Cleanup(cancel)
					} else {
						defer blocker.Release(within(t))
					}
					over := make(chan struct{})
					go func() {
						defer close(over)
						l.Acquire(ctx, "b-"+name)
					}()
					if busy == "timed-out" {
						<-over
					} else {
						waits(t, near, "b-"+name)
					}
				}
				name := transport + "-client"
				c := start(t, options)
				must(t, c.Get(within(t), name))
				lost[name] = c.Lost()
			}
			lab.Cut(way)
			errs := make(chan error)
			for name, lost := range lost {
				go func() {
					_, err := near.Acquire(within(t), name)
					if err == nil {
						select {
						case <-lost:
						default:
							err = fmt.Errorf("%s: the next one has it, and its holder does not know", name)
						}
					}
					errs <- err
				}()
			}
			for range lost {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestHolderStays: a network that is cut for less than that loses nobody a lock.
func TestHolderStays(t *testing.T) {
	t.Parallel()
	lab := netlab.New(t)
	targets := serveNear(t, lab, 20*time.Second)
	var lost []<-chan struct{}
	for _, transport := range []string{"tcp", "tls", "websocket"} {
		l := locker(t, client.LockerOptions{Options: at(lab.AtFar, targets[transport], transport == "tls"), Anonymous: true})
		lock, err := l.Acquire(within(t), transport)
		must(t, err)
		c := start(t, at(lab.AtFar, targets[transport], transport == "tls"))
		must(t, c.Get(within(t), "client-"+transport))
		lost = append(lost, lock.Lost(), c.Lost())
		defer func() {
			must(t, lock.Release(within(t)))
			must(t, c.Release(within(t), "client-"+transport))
		}()
	}
	near := locker(t, client.LockerOptions{Options: at(lab.AtNear, targets["tcp"], false), Anonymous: true})
	ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	defer cancel()
	lab.Cut(netlab.Both)
	if lock, err := near.Acquire(ctx, "tcp"); err == nil {
		t.Error("it was freed before its time: ", lock.Token())
	}
	lab.Mend()
	for i, lost := range lost {
		select {
		case <-lost:
			t.Errorf("%d: lost", i)
		default:
		}
	}
}

// waits waits until somebody waits for a lock.
func waits(t *testing.T, l *client.Locker, name string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		entries, err := l.Look(within(t), name)
		must(t, err)
		if len(entries) > 1 {
			return
		}
		if time.Now().After(end) {
			t.Fatal("nobody waits for " + name)
		}
	}
}

// serveNear serves on a lab's near machine, and returns targets by transport.
func serveNear(t *testing.T, lab *netlab.Lab, h time.Duration) map[string]string {
	t.Helper()
	s, err := server.New(server.Options{TCP: []string{netlab.Near + ":0"}, WebSocket: []string{netlab.Near + ":0"}, DeadPeerTimeout: h})
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	})
	targets := make(map[string]string)
	lab.AtNear(func() {
		err = s.Listen()
		if err != nil {
			return
		}
		var l net.Listener
		if l, err = net.Listen("tcp", netlab.Near+":0"); err == nil {
			targets["tls"] = "tcp://" + l.Addr().String()
			go s.Serve(tls.NewListener(l, unchecked(t)))
		}
	})
	must(t, err)
	for _, a := range s.Addrs() {
		targets[a.Transport] = map[string]string{"tcp": "tcp", "websocket": "ws"}[a.Transport] + "://" + a.String()
	}
	return targets
}

// unchecked returns what a server has whose certificate nobody checks.
func unchecked(t *testing.T) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}}
}

// at returns options of a client on one of a lab's machines.
func at(machine func(func()), target string, secret bool) client.Options {
	return client.Options{Target: target, Dial: func(ctx context.Context) (conn net.Conn, err error) {
		_, addr, _ := strings.Cut(target, "://")
		machine(func() { conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr) })
		if err == nil && secret {
			conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		}
		return conn, err
	}}
}
