package admin

import (
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counting is a collector that counts how often it is asked, and how many ask at a
// time.
type counting struct {
	asked, now, most atomic.Int32
}

func (c *counting) Describe(ch chan<- *prometheus.Desc) {
	ch <- prometheus.NewDesc("x", "x", nil, nil)
}

func (c *counting) Collect(ch chan<- prometheus.Metric) {
	if n := c.now.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	time.Sleep(time.Millisecond) // for others to come
	c.now.Add(-1)
	ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("x", "x", nil, nil), prometheus.CounterValue, float64(c.asked.Add(1)))
}

// All who have asked before a page was begun get that one; who asks later gets
// another one.
func TestPages(t *testing.T) {
	t.Parallel()
	c := new(counting)
	m := newMetrics(c)
	asked := time.Now()
	first := m.page(asked)
	for range 5 {
		if m.page(asked) != first {
			t.Error("who has asked before gets another page")
		}
	}
	if second := m.page(time.Now()); second == first || !strings.Contains(second.body.String(), "\nx 2\n") {
		t.Errorf("who asks later gets %q", second.body.String())
	}
	c = new(counting)
	m = newMetrics(c)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() { m.page(time.Now()) })
	}
	all.Wait()
	if c.most.Load() != 1 {
		t.Errorf("%d pages were made at a time", c.most.Load())
	}
}

// A body that does not come is not waited for, without a bound on the time of
// reading, too.
func TestWithheldBody(t *testing.T) {
	t.Parallel()
	h := New(Config{Metrics: new(counting), Ready: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	h.ReadTimeout = 0
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	defer func() {
		h.Close()
		<-served
	}()
	for _, rest := range []string{"Content-Length: 1000\r\n\r\n", "Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"} {
		for _, method := range []string{"GET", "POST"} {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			io.WriteString(c, method+" /healthz HTTP/1.1\r\nHost: localhost\r\n"+rest)
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 ") || !strings.Contains(string(got), "\r\nConnection: close\r\n") {
				t.Errorf("%s, %q: got %q, %v", method, rest, got, err)
			}
		}
	}
}

// A browser gets the page, others what there is in words.
func TestIndex(t *testing.T) {
	t.Parallel()
	h := New(Config{Metrics: new(counting), Ready: func() error { return nil }, Logger: slog.New(slog.DiscardHandler)})
	for accept, want := range map[string]string{
		"": "/metrics ", "*/*": "/metrics ", "application/json": "/metrics ",
		"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8": "<!doctype html>",
	} {
		r := httptest.NewRequest("GET", "http://localhost/", nil)
		if accept != "" {
			r.Header.Set("Accept", accept)
		}
		w := httptest.NewRecorder()
		h.Handler.ServeHTTP(w, r)
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) || w.Header().Get("Vary") != "Accept" {
			t.Errorf("%q: %d, %v, %q", accept, w.Code, w.Header(), w.Body.String())
		}
	}
	for target, code := range map[string]int{"/ui/app.js": 200, "/ui/app.css": 200, "/ui/nothing": 404} {
		w := httptest.NewRecorder()
		h.Handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+target, nil))
		if w.Code != code {
			t.Errorf("%s: %d", target, w.Code)
		}
	}
}
