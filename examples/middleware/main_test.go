package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), "", &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"one visitor, one after another  200 OK", "429 Too Many Requests", "20 visitors at once             200 OK",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// limits returns limits with a lockd of their own.
func limits(t *testing.T) *Limits {
	t.Helper()
	return limitsOver(t, func(conn net.Conn) (net.Conn, error) { return conn, nil })
}

// limitsOver is limits, with something on the way to lockd.
func limitsOver(t *testing.T, way func(net.Conn) (net.Conn, error)) *Limits {
	t.Helper()
	s, err := server.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{
		Dial: func(context.Context) (net.Conn, error) {
			conn, err := s.Dial()
			if err != nil {
				return nil, err
			}
			return way(conn)
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		s.Shutdown(context.Background())
	})
	return &Limits{
		Locker: l, Name: "test", Concurrent: 1, Wait: time.Minute, Rate: 100, Per: time.Hour,
		Visitor: func(r *http.Request) string { return r.Header.Get("Visitor") },
	}
}

func serve(h http.Handler, visitor string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Visitor", visitor)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestConcurrency(t *testing.T) {
	l := limits(t)
	l.Concurrent = 2
	begun, end := make(chan struct{}), make(chan struct{})
	h := l.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-end
	}))
	var wg sync.WaitGroup
	for range 3 { // the third waits for one of the others
		wg.Go(func() {
			if w := serve(h, "a"); w.Code != http.StatusOK {
				t.Error(w.Code)
			}
		})
	}
	<-begun
	<-begun

	hasty := *l
	hasty.Wait = 20 * time.Millisecond
	if w := serve(hasty.Wrap(nil), "a"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" {
		t.Error(w.Code, w.Header())
	}
	end <- struct{}{}
	<-begun
	end <- struct{}{}
	end <- struct{}{}
	wg.Wait()
}

func TestRate(t *testing.T) {
	l := limits(t)
	l.Rate = 2
	h := l.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for i, want := range []int{200, 200, 429, 429} {
		w := serve(h, "a")
		if w.Code != want {
			t.Error(i, w.Code)
		}
		if want == 429 {
			// Half an hour after the first request, which is a moment ago.
			if retry, err := strconv.Atoi(w.Header().Get("Retry-After")); err != nil || retry < 1 || retry > 1800 {
				t.Error(i, w.Header())
			}
		}
	}
	if w := serve(h, "b"); w.Code != 200 {
		t.Error("another visitor:", w.Code)
	}
}

// TestOutage: without lockd requests are refused, or served if so wanted.
func TestOutage(t *testing.T) {
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{
		Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("no network") },
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	limits := &Limits{
		Locker: l, Concurrent: 1, Wait: 10 * time.Millisecond, Rate: 1, Per: time.Hour,
		Visitor: func(*http.Request) string { return "" },
	}
	served := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	if w := serve(limits.Wrap(served), ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Error(w.Code, w.Header())
	}
	limits.Open = true
	if w := serve(limits.Wrap(served), ""); w.Code != http.StatusTeapot {
		t.Error(w.Code)
	}
}

// TestOutageInQueue: when lockd goes away, those in the queue do not wait for it
// longer than they would have waited for their turn.
func TestOutageInQueue(t *testing.T) {
	var dialed atomic.Bool
	first := make(chan net.Conn, 1)
	l := limitsOver(t, func(conn net.Conn) (net.Conn, error) {
		if dialed.Swap(true) {
			conn.Close()
			return nil, errors.New("no network")
		}
		first <- conn
		return conn, nil
	})
	l.Wait = time.Second
	l.Open = true
	if _, err := l.Locker.AcquireShared(t.Context(), "test at a time", 1); err != nil {
		t.Fatal(err)
	}
	conn := <-first
	time.AfterFunc(50*time.Millisecond, func() { conn.Close() })
	h := l.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	if w := serve(h, "a"); w.Code != http.StatusTeapot { // not refused: who knows whether it is busy
		t.Error(w.Code)
	}
}

// A muted connection loses what is written, once told to.
type muted struct {
	net.Conn
	on atomic.Bool
}

func (m *muted) Write(b []byte) (int, error) {
	if m.on.Load() {
		return len(b), nil
	}
	return m.Conn.Write(b)
}

// TestSilence: a response does not wait for lockd once it is made.
func TestSilence(t *testing.T) {
	var m muted
	l := limitsOver(t, func(conn net.Conn) (net.Conn, error) {
		m.Conn = conn
		return &m, nil
	})
	served := make(chan struct{})
	go func() {
		defer close(served)
		serve(l.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { m.on.Store(true) })), "a")
	}()
	select {
	case <-served:
	case <-time.After(5 * time.Second): // lockd is given up after 15
		t.Error("the response waits for lockd")
	}
}
