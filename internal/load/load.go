// Package load puts a server under load and measures how it bears it. It
// speaks to lockd and, so that a comparison uses one client, to Redis and
// memcached, with the requests that come nearest to taking and releasing a
// lock.
//
// A closed loop sends a connection's next batch when the replies to the last
// one are there. An open loop (Options.Rate) sends at the times of a schedule
// that knows nothing of the replies and measures each latency from the time
// at which the request was due: a server that stalls is charged for all the
// requests that it kept from being sent (what closed loops hide is called
// coordinated omission).
//
// Short connections (Options.Short) ask once each, as the clients do that take
// a lock for as long as they run.
//
// The client has to be cheaper than the server. On Linux a worker is one
// thread with an epoll loop and raw system calls; elsewhere, and within TLS, a
// connection has a goroutine. What moves is the same on both: a pipeline, a connection
// without its socket, takes bytes and gives bytes. A request allocates nothing.
//
// The package checks each reply: a reply that cannot belong to the request
// that is next in order ends the run with an error.
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// Options say what to send where. The zero value of a field is its default.
type Options struct {
	// Target is the server: tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH,
	// ws://HOST:PORT/PATH, wss://HOST:PORT/PATH, redis://HOST:PORT or
	// memcached://HOST:PORT. HOST:PORT alone is lockd's, and so is PORT alone, on this
	// machine; empty is tcp://127.0.0.1:9999.
	Target string
	// TLS is for targets within TLS; nil means what the system trusts.
	TLS *tls.Config
	// Token is presented to a lockd at the beginning of each connection, if it is not
	// empty.
	Token string
	// ConnectTimeout is how long one connection may take, its handshakes and the token
	// included; 0 means 5 seconds.
	ConnectTimeout time.Duration
	// Connections is how many connections there are; 0 means 50.
	Connections int
	// Pipeline is how many requests a connection sends without waiting for
	// their replies; 0 means 1.
	Pipeline int
	// Short makes a connection for each request: connect, ask, read the reply,
	// close, as many at a time as Connections says. That is how a web page
	// takes a lock that ends with it. Only the first request of Mix is made,
	// since the server releases what the connection held. A latency is the
	// time from connecting to the reply; within TLS, to the handshake's end and what
	// follows. Not with Pipeline, Rate or WebSocket.
	Short bool
	// Requests ends the run after so many measured requests, if not 0.
	Requests int64
	// Duration ends the run after so much measured time; 0 means 5 seconds,
	// or no end if Requests is given.
	Duration time.Duration
	// Warmup is what is sent before measuring; 0 means none.
	Warmup time.Duration
	// Mix is what is asked for; empty means Exclusive.
	Mix Mix
	// Names is which names are used; empty means Uniform.
	Names Names
	// NameCount is how many names Uniform and Zipf choose from; 0 means
	// 100,000.
	NameCount int
	// NameSize is the length of a name; 0 means 16.
	NameSize int
	// Rate is requests a second over all connections, in an open loop; 0
	// means a closed loop.
	Rate float64
	// Threads is how many workers share the connections; 0 means half the
	// processors, at least one.
	Threads int
	// ServerPID is the server's process, to report what it costs. Linux only.
	ServerPID int
	// OnProgress is called once a second, if not nil.
	OnProgress func(Progress)
}

// Mix is a mix of requests.
type Mix string

// The mixes.
const (
	Exclusive Mix = "exclusive" // get and release the same name
	Shared    Mix = "shared"    // the same with a shared lock
	Inspect   Mix = "inspect"   // ask whether a name is locked
)

// Names is a choice of names.
type Names string

// The choices of names.
const (
	One     Names = "one"     // one hot name
	Uniform Names = "uniform" // NameCount names, all as likely
	Zipf    Names = "zipf"    // NameCount names, a few of them hot
	New     Names = "new"     // names that were never seen before
)

// Progress is how a run stands.
type Progress struct {
	Warmup   bool          // not measuring yet
	Elapsed  time.Duration // since measuring began
	Requests int64         // measured so far
	Rate     float64       // requests a second since the last call
	P99      time.Duration // so far
}

const (
	maxConnections = 1 << 20
	maxPipeline    = 1 << 16
	maxNameSize    = 4000
)

// drainTime is how long after the end a run waits for outstanding replies.
// Tests do not wait so long.
var drainTime = 5 * time.Second

// complete fills in the defaults and tells what is wrong.
func (o *Options) complete() error {
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.Connections, 50)
	setDefault(&o.Pipeline, 1)
	setDefault(&o.NameCount, 100_000)
	setDefault(&o.NameSize, 16)
	setDefault(&o.Threads, max(1, runtime.NumCPU()/2))
	setDefault(&o.Mix, Exclusive)
	setDefault(&o.Names, Uniform)
	if o.Requests == 0 {
		setDefault(&o.Duration, 5*time.Second)
	}
	for _, bound := range []struct {
		name          string
		n, from, upto int
	}{
		{"connections", o.Connections, 1, maxConnections},
		{"pipeline", o.Pipeline, 1, maxPipeline},
		{"name-count", o.NameCount, 1, 1<<31 - 1},
		{"name-size", o.NameSize, 1, maxNameSize},
		{"threads", o.Threads, 1, 1024},
	} {
		if bound.n < bound.from || bound.n > bound.upto {
			return fmt.Errorf("%s must be between %d and %d, not %d", bound.name, bound.from, bound.upto, bound.n)
		}
	}
	switch {
	case o.Requests < 0:
		return errors.New("requests must not be negative")
	case o.Duration < 0 || o.Warmup < 0 || o.ConnectTimeout < 0:
		return errors.New("duration, warmup and connect-timeout must not be negative")
	case !(o.Rate >= 0 && o.Rate <= 1e8): // NaN is neither
		return errors.New("rate must be between 0 and 100000000")
	case o.Short && o.Pipeline > 1:
		return errors.New("short connections make one request each: pipeline must be 1")
	case o.Short && o.Rate > 0:
		return errors.New("short connections have no open loop: rate must be 0")
	case o.Mix != Exclusive && o.Mix != Shared && o.Mix != Inspect:
		return fmt.Errorf("mix must be %s, %s or %s, not %q", Exclusive, Shared, Inspect, o.Mix)
	}
	o.Threads = min(o.Threads, o.Connections)
	_, err := newNamer(o, 0)
	return err
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// A run is one measurement under way.
type run struct {
	opts     Options
	target   target
	dialect  *dialect
	server   *process    // nil if it is not watched
	peer     net.Addr    // for short connections
	requests [2]*request // sent in turn
	began    time.Time   // all other times are nanoseconds since then
	warm     int64       // when measuring begins
	end      int64       // when it ends; never, if requests are counted
	stop     atomic.Bool // end early
}

func (r *run) now() int64 { return int64(time.Since(r.began)) }

// Validate tells what is wrong with the options, without asking the network.
func (o Options) Validate() error {
	_, err := newRun(o)
	return err
}

func newRun(opts Options) (*run, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	target, err := parseTarget(opts.Target)
	if err != nil {
		return nil, err
	}
	r := &run{opts: opts, target: target, dialect: dialects[target.Server]}
	if r.requests, err = r.dialect.mix(opts.Mix); err != nil {
		return nil, err
	}
	switch {
	case opts.Short && r.requests[0].holds && !r.dialect.frees && opts.Names != New:
		return nil, fmt.Errorf("%s keeps a lock when its connection ends: short connections need new names", target.Server)
	case opts.Short && target.URL != nil:
		return nil, errors.New("short connections are made over TCP, TLS and unix sockets only, not over WebSocket")
	}
	r.server, err = watchProcess(opts.ServerPID)
	return r, err
}

// Run puts load on a server until the options or ctx end it. The Report is
// good for what was measured also when there is an error.
func Run(ctx context.Context, opts Options) (Report, error) {
	r, err := newRun(opts)
	if err != nil {
		return Report{}, err
	}
	opts, target := r.opts, r.target

	var conns []net.Conn
	if opts.Short {
		conns, err = r.dialAll(ctx, 1) // to find out where that is, and that it is there
		if err == nil {
			r.peer = conns[0].RemoteAddr()
			if target.Network == "unix" { // by that name it was found; the server's may be a relative path
				r.peer = &net.UnixAddr{Name: target.Addr, Net: target.Network}
			}
			closeAll(conns)
			conns = make([]net.Conn, opts.Connections)
		}
	} else {
		conns, err = r.dialAll(ctx, opts.Connections)
	}
	if err != nil {
		return Report{}, err
	}
	workers, err := r.hire(conns)
	if err != nil {
		closeAll(conns)
		return Report{}, err
	}
	// A worker keeps its processor while it waits in a system call for less
	// than 10 ms; one more is for signals and the progress line.
	if runtime.GOMAXPROCS(0) <= len(workers) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(workers) + 1))
	}
	return r.measure(ctx, workers)
}

// hire shares the connections out among workers.
func (r *run) hire(conns []net.Conn) ([]worker, error) {
	n := r.opts.Threads
	workers := make([]worker, n)
	for i := range workers {
		w, err := newWorker(r, i, n, len(conns))
		if err != nil {
			return nil, err
		}
		workers[i] = w
	}
	for i, c := range conns {
		if err := workers[i%n].adopt(c); err != nil {
			return nil, err
		}
	}
	return workers, nil
}

func (r *run) measure(ctx context.Context, workers []worker) (Report, error) {
	r.began = time.Now()
	r.warm = int64(r.opts.Warmup)
	r.end = 1<<63 - 1
	if r.opts.Duration > 0 {
		r.end = r.warm + int64(r.opts.Duration)
	}
	done := make(chan error, len(workers))
	for _, w := range workers {
		go func() { done <- w.work() }()
	}

	sum := newTally()
	var first, last sample // around the measured time
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	warmed := time.NewTimer(time.Duration(r.warm))
	defer warmed.Stop()
	ended := time.NewTimer(time.Duration(r.end - max(0, r.now())))
	defer ended.Stop()
	cancel := ctx.Done()
	var failure error
	seen, seenAt := int64(0), int64(0)
	collect := func() {
		for _, w := range workers {
			w.collect(sum)
		}
	}
	for left := len(workers); left > 0; {
		select {
		case err := <-done:
			left--
			if err != nil {
				failure = err
				r.stop.Store(true)
			}
			if last.at == 0 {
				last = takeSample(r, workers)
			}
		case <-warmed.C:
			first = takeSample(r, workers)
			seen, seenAt = first.replies, first.at
		case <-ended.C:
			if last.at == 0 {
				last = takeSample(r, workers)
			}
		case <-cancel:
			cancel = nil
			if last.at == 0 {
				last = takeSample(r, workers)
			}
			r.stop.Store(true)
		case <-ticker.C:
			if r.opts.OnProgress == nil || last.at != 0 {
				break
			}
			collect()
			p := Progress{Warmup: first.at == 0, Requests: sum.requests, P99: sum.quantile(99)}
			now := r.now()
			if !p.Warmup {
				p.Elapsed = time.Duration(now - r.warm)
			}
			// All replies, so that the warm-up shows, too.
			if n := replies(workers); now > seenAt {
				p.Rate = float64(n-seen) / time.Duration(now-seenAt).Seconds()
				seen, seenAt = n, now
			}
			r.opts.OnProgress(p)
		}
	}
	if first.at == 0 { // it did not get so far
		first = last
	}
	for _, w := range workers {
		w.close()
		w.total(sum)
	}
	if n := sum.kinds[unanswered]; n > 0 && failure == nil {
		failure = fmt.Errorf("%s left %s without a reply for %v", r.target, Plural(int(n), "request"), drainTime)
		if replies(workers) == 0 {
			failure = fmt.Errorf("%s replied to nothing for %v: is it a %s server?", r.target, drainTime, r.target.Server)
		}
	}
	if n := sum.kinds[lostConnection]; n > 0 && sum.requests == 0 && failure == nil {
		failure = fmt.Errorf("%s ended %s without a reply: is it a %s server?", r.target, Plural(int(n), "connection"), r.target.Server)
	}
	return r.report(sum, workers, first, last), failure
}

// sample is what is read at the two ends of the measured time.
type sample struct {
	at      int64
	replies int64
	server  time.Duration // CPU time
	client  time.Duration
}

func takeSample(r *run, workers []worker) sample {
	return sample{at: r.now(), replies: replies(workers), server: r.server.cpu(), client: ownCPU()}
}

func replies(workers []worker) (n int64) {
	for _, w := range workers {
		n += w.state().replies.Load()
	}
	return n
}
