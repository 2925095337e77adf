package admin

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
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
	page := func(asked time.Time, format int) *bytes.Buffer {
		t.Helper()
		p, err := m.page(asked, format)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	asked := time.Now()
	first, protobuf := page(asked, 0), page(asked, 1)
	for range 5 {
		if page(asked, 0) != first || page(asked, 1) != protobuf || first == protobuf {
			t.Error("who has asked before gets another page")
		}
	}
	if n := c.asked.Load(); n != 1 {
		t.Errorf("was asked %d times for pages of two formats", n)
	}
	if second := page(time.Now(), 0); second == first || !strings.Contains(second.String(), "\nx 2\n") {
		t.Errorf("who asks later gets %q", second)
	}
	c = new(counting)
	m = newMetrics(c)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { m.page(time.Now(), i%2) })
	}
	all.Wait()
	if c.most.Load() != 1 {
		t.Errorf("%d pages were made at a time", c.most.Load())
	}
}

// Who wants protobuf gets it, and all others get text.
func TestFormats(t *testing.T) {
	t.Parallel()
	m := newMetrics(new(counting))
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	for accept, want := range map[string]expfmt.Format{
		"": expfmt.FmtText, "*/*": expfmt.FmtText, "text/plain": expfmt.FmtText, "text/html, */*;q=0.1": expfmt.FmtText,
		"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4": expfmt.FmtText,
		protobuf + ";q=0.6,text/plain;version=0.0.4;q=0.3":                                expfmt.FmtProtoDelim,
		"text/plain;version=0.0.4;q=0.9," + protobuf + ";q=0.3":                           expfmt.FmtText,
		protobuf: expfmt.FmtProtoDelim, "nonsense;;;": expfmt.FmtText,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		if got := w.Header().Get("Content-Type"); got != string(want) || w.Header().Get("Vary") != "Accept" {
			t.Errorf("%q: %q", accept, got)
		}
		var family dto.MetricFamily
		for from, found := expfmt.NewDecoder(w.Body, want), false; ; found = found || family.GetName() == "x" {
			if err := from.Decode(&family); err == io.EOF && found {
				break
			} else if err != nil {
				t.Errorf("%q: found x: %v, %v", accept, found, err)
				break
			}
		}
	}
}

// broken cannot be collected.
type broken struct{ counting }

func (*broken) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.NewInvalidMetric(prometheus.NewDesc("x", "x", nil, nil), errors.New("torn"))
}

// What cannot be gathered is an error, and no page with a part of all.
func TestBrokenMetrics(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	newMetrics(new(broken)).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "torn") {
		t.Errorf("%d %q", w.Code, w.Body)
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
