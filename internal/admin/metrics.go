package admin

import (
	"bytes"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is the page for Prometheus. To collect goes over all shards and much of
// Go's runtime, so one page is made at a time, and all who asked before it was begun
// get the same one: however many ask, nobody waits for more than two. Nobody waits
// for those who are sent one. So that it is the same for all, it is in Prometheus's
// text format and not compressed.
type metrics struct {
	handler http.Handler

	mu    sync.Mutex // held while a page is made; guards what follows
	begun time.Time  // when the last page was
	last  *answer
}

func newMetrics(c prometheus.Collector) *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &metrics{handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{DisableCompression: true})}
}

func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := m.page(time.Now())
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.WriteHeader(p.status)
	w.Write(p.body.Bytes())
}

// page returns a page that was begun after somebody has asked for it.
func (m *metrics) page(asked time.Time) *answer {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.begun.After(asked) {
		m.begun = time.Now()
		m.last = &answer{header: make(http.Header), status: http.StatusOK}
		m.handler.ServeHTTP(m.last, &http.Request{Method: http.MethodGet, Header: make(http.Header)})
		m.last.header.Del("Vary")
	}
	return m.last
}

// answer is one that is kept. It implements http.ResponseWriter.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (p *answer) Header() http.Header         { return p.header }
func (p *answer) WriteHeader(status int)      { p.status = status }
func (p *answer) Write(b []byte) (int, error) { return p.body.Write(b) }
