package admin

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// metrics is the page for Prometheus. To collect goes over all shards and much of
// Go's runtime, so that is done for one at a time, and all who asked before it was begun
// get the same: however many ask, nobody waits for more than two. Nobody waits for those
// who are sent one. So that it is the same for all, it is not compressed, and there is
// one in each of two formats: Prometheus's text, and protobuf for a Prometheus that
// wants native histograms, which the text does not have.
type metrics struct {
	gatherer prometheus.Gatherer

	mu       sync.Mutex // held while a page is made; guards what follows
	begun    time.Time  // when its families were gathered
	families []*dto.MetricFamily
	err      error
	pages    [len(formats)]*bytes.Buffer
}

// formats are those that there are; who asks for none of them gets the first one.
var formats = [...]expfmt.Format{expfmt.FmtText, expfmt.FmtProtoDelim}

// ofGo is what is told of Go's runtime beside what client_golang tells in any case: what
// the garbage collector takes, for how long it stops all, and how long who could run
// waits for a processor.
var ofGo = regexp.MustCompile(`^(/cpu/classes/gc/total:cpu-seconds|/sched/pauses/total/gc:seconds|/sched/latencies:seconds)$`)

func newMetrics(c prometheus.Collector) *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c,
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.GoRuntimeMetricsRule{Matcher: ofGo})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &metrics{gatherer: registry}
}

func (m *metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	format := 0
	if expfmt.NegotiateAccept(r.Header, formats[:]...).FormatType() == expfmt.TypeProtoDelim {
		format = 1
	}
	p, err := m.page(time.Now(), format)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", string(formats[format]))
	w.Header().Set("Vary", "Accept")
	w.Write(p.Bytes())
}

// page returns a page whose metrics were gathered after somebody has asked for it.
func (m *metrics) page(asked time.Time, format int) (*bytes.Buffer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.begun.After(asked) {
		m.begun = time.Now()
		m.families, m.err = m.gatherer.Gather()
		m.pages = [len(formats)]*bytes.Buffer{}
	}
	if m.err != nil {
		return nil, fmt.Errorf("lockd: some metrics could not be gathered: %w", m.err)
	}
	if m.pages[format] == nil {
		p := new(bytes.Buffer)
		to := expfmt.NewEncoder(p, formats[format])
		for _, family := range m.families {
			if err := to.Encode(family); err != nil {
				return nil, fmt.Errorf("lockd: %s cannot be written: %w", family.GetName(), err)
			}
		}
		m.pages[format] = p
	}
	return m.pages[format], nil
}
