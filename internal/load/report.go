package load

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run has measured. Latencies are in microseconds. A short
// connection makes one request, so figures a request are figures a connection.
// As JSON it has all of its keys always; what was not measured is 0. Figures are
// rounded to what a measurement can tell.
type Report struct {
	Target      string  `json:"target"`
	Mix         Mix     `json:"mix"`
	Names       Names   `json:"names"`
	NameCount   int     `json:"name_count"`
	NameSize    int     `json:"name_size"`
	Connections int     `json:"connections"`
	Pipeline    int     `json:"pipeline"`
	Short       bool    `json:"short"` // a connection for each request
	Threads     int     `json:"threads"`
	Rate        float64 `json:"rate"` // asked for, in an open loop

	Seconds    float64 `json:"seconds"`
	Requests   int64   `json:"requests"` // answered
	Throughput float64 `json:"requests_per_second"`
	// Refusals are answers that refuse what was asked for; Errors are not.
	Refusals map[string]int64 `json:"refusals"`
	Errors   map[string]int64 `json:"errors"`
	// FirstError is an error that a server replied.
	FirstError string `json:"first_error"`
	// Unsent are requests that were due in an open loop and never sent. How
	// long they waited is in Latency.
	Unsent  int64   `json:"unsent"`
	Latency Latency `json:"latency_us"`

	BytesIn   int64   `json:"bytes_in"`
	BytesOut  int64   `json:"bytes_out"`
	ClientCPU float64 `json:"client_cpu_us_per_request"`

	ServerPID int     `json:"server_pid"`
	ServerCPU float64 `json:"server_cpu_us_per_request"`
	ServerUse float64 `json:"server_cpu_percent"` // of one core
	ServerRSS int64   `json:"server_rss_bytes"`
}

// Latency are quantiles.
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

func micros(d time.Duration) float64 { return float64(d) / 1e3 }

func (r *run) report(sum *tally, workers []worker, first, last sample) Report {
	o := &r.opts
	var end int64
	for _, w := range workers {
		end = max(end, w.state().endedAt, 0)
	}
	rep := Report{
		Target: r.target.String(), Mix: o.Mix, Names: o.Names, NameSize: o.NameSize,
		Connections: o.Connections, Pipeline: o.Pipeline, Short: o.Short, Threads: o.Threads, Rate: o.Rate,
		Seconds:  max(0, time.Duration(end-r.warm).Seconds()),
		Refusals: map[string]int64{}, Errors: map[string]int64{},
		Requests: sum.requests, Unsent: sum.unsent,
		Latency: Latency{
			Mean: sum.latency.Mean() / 1e3,
			P50:  micros(sum.quantile(50)),
			P90:  micros(sum.quantile(90)),
			P99:  micros(sum.quantile(99)),
			P999: micros(sum.quantile(99.9)),
			Max:  micros(time.Duration(sum.latency.Max())),
		},
		BytesIn: sum.bytesIn, BytesOut: sum.bytesOut,
		ServerPID: o.ServerPID, ServerRSS: r.server.rss(),
	}
	if o.Names == Uniform || o.Names == Zipf {
		rep.NameCount = o.NameCount
	}
	if rep.Seconds > 0 {
		rep.Throughput = float64(sum.requests) / rep.Seconds
	}
	for kind, n := range sum.kinds {
		m := rep.Refusals
		if kind >= errorReply {
			m = rep.Errors
		}
		if n > 0 && kind != answered {
			m[kindNames[kind]] = n
		}
	}
	for _, w := range workers {
		if err := w.state().generator.failed; err != nil {
			rep.FirstError = err.Error()
		}
	}
	if n := float64(last.replies - first.replies); n > 0 {
		rep.ClientCPU = micros(last.client-first.client) / n
		if r.server != nil {
			rep.ServerCPU = micros(last.server-first.server) / n
			rep.ServerUse = 100 * float64(last.server-first.server) / float64(last.at-first.at)
		}
	}
	rep.round()
	return rep
}

// round leaves of each figure the digits that mean something.
func (r *Report) round() {
	to := func(parts float64, figures ...*float64) {
		for _, f := range figures {
			*f = math.Round(*f*parts) / parts
		}
	}
	l := &r.Latency
	to(10, &l.Mean, &l.P50, &l.P90, &l.P99, &l.P999, &l.Max, &r.ServerUse)
	to(1000, &r.Seconds, &r.ClientCPU, &r.ServerCPU)
	if r.Throughput < 100 {
		to(100, &r.Throughput)
	} else {
		to(1, &r.Throughput)
	}
}

// WriteText writes the report as a table for people.
func (r Report) WriteText(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	names := fmt.Sprintf("%s names of %d bytes", r.Names, r.NameSize)
	if r.NameCount > 0 {
		names = Group(int64(r.NameCount)) + " " + names
	}
	if r.Names == One {
		names = fmt.Sprintf("one name of %d bytes", r.NameSize)
	}
	loop := "closed loop"
	if r.Rate > 0 {
		loop = fmt.Sprintf("open loop at %s/s", rateText(r.Rate))
	}
	unit := "request"
	conns := fmt.Sprintf("%s, %s deep", Plural(r.Connections, "connection"), Plural(r.Pipeline, "request"))
	if r.Short {
		unit = "connection"
		conns = Plural(r.Connections, "short connection") + " at a time"
	}
	row("target", "%s", r.Target)
	row("load", "%s, %s, %s, %s, %s", r.Mix, names, conns, loop, Plural(r.Threads, "thread"))
	row(unit+"s", "%s in %.2f s", Group(r.Requests), r.Seconds)
	row("throughput", "%s %ss/s", Group(int64(r.Throughput+0.5)), unit)
	l := r.Latency
	row("latency", "p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", span(l.P50), span(l.P90), span(l.P99), span(l.P999), span(l.Max))
	if r.Rate > 0 {
		row("", "counted from when a request was due")
	}
	if r.Short {
		row("", "from connecting to the reply")
	}
	row("refusals", "%s", r.list(r.Refusals))
	row("errors", "%s", r.list(r.Errors))
	if r.FirstError != "" {
		row("", "the first was %s", r.FirstError)
	}
	if r.Unsent > 0 {
		row("unsent", "%s were due and could not be sent: the rate is too high", Group(r.Unsent))
	}
	row("bytes", "%s in, %s out", Group(r.BytesIn), Group(r.BytesOut))
	if r.ClientCPU > 0 {
		row("client CPU", "%.3f us/%s", r.ClientCPU, unit)
	}
	if r.ServerPID != 0 {
		row("server CPU", "%.3f us/%s, %.0f %% of a core", r.ServerCPU, unit, r.ServerUse)
		row("server RSS", "%.1f MiB", float64(r.ServerRSS)/(1<<20))
	}
	return w.Flush()
}

func (r Report) list(m map[string]int64) string {
	var parts []string
	for _, kind := range kindNames {
		if n := m[kind]; n > 0 {
			share := 100 * float64(n) / float64(max(1, r.Requests+r.Errors[kindNames[unanswered]]+r.Errors[kindNames[lostConnection]]))
			parts = append(parts, fmt.Sprintf("%s %s (%.3g %%)", Group(n), kind, share))
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Group writes a number with commas.
func Group(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rateText writes a number with commas, and with decimals if it has some.
func rateText(rate float64) string {
	whole, decimals, found := strings.Cut(strconv.FormatFloat(rate, 'f', -1, 64), ".")
	n, _ := strconv.ParseInt(whole, 10, 64)
	if found {
		return Group(n) + "." + decimals
	}
	return Group(n)
}

// Plural writes a number of things.
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return Group(int64(n)) + " " + what + "s"
}

// span writes microseconds in the unit that fits.
func span(us float64) string {
	switch {
	case us < 1000:
		return fmt.Sprintf("%.1f us", us)
	case us < 1e6:
		return fmt.Sprintf("%.2f ms", us/1e3)
	}
	return fmt.Sprintf("%.2f s", us/1e6)
}

// String is a progress line.
func (p Progress) String() string {
	rate := Group(int64(p.Rate + 0.5))
	if p.Warmup {
		return fmt.Sprintf("warming up: %s requests/s", rate)
	}
	return fmt.Sprintf("%.0f s: %s requests/s, %s so far, p99 %s", p.Elapsed.Seconds(), rate, Group(p.Requests), span(micros(p.P99)))
}
