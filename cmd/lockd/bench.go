package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/load"
	"github.com/nylen/lockd/pkg/client"
)

// benchCmd is the command line of the load generator. Numbers that are not
// given are 0 and take the defaults of internal/load, which the help texts
// repeat.
type benchCmd struct {
	endpoint
	Connections int           `short:"c" env:"-" placeholder:"N" default:"50" group:"Load" help:"Connections (${default})."`
	Pipeline    int           `short:"P" env:"-" placeholder:"N" default:"1" group:"Load" help:"Requests that a connection sends without waiting for their replies (${default})."`
	Short       bool          `env:"-" group:"Load" help:"A connection for each request: connect, get a lock, read the reply, close; -c at a time. Latencies are from connecting to the reply. Redis and memcached need --names new, as they keep the locks."`
	Requests    int64         `short:"n" env:"-" placeholder:"N" group:"Load" help:"Stop after so many requests."`
	Duration    time.Duration `short:"d" env:"-" placeholder:"TIME" group:"Load" help:"Stop after so much time (5s, or with -n none)."`
	Warmup      time.Duration `min:"0" env:"-" placeholder:"TIME" default:"1s" group:"Load" help:"Load before measuring begins (${default})."`
	Rate        float64       `max:"100000000" env:"-" placeholder:"N" group:"Load" help:"Open loop: send N requests a second, whether replies come or not, and count latencies from when a request was due. Without it a connection sends when it has its replies."`
	Threads     int           `env:"-" placeholder:"N" group:"Load" help:"Threads of the load generator (half the cores)."`
	Mix         load.Mix      `enum:"exclusive,shared,inspect" env:"-" placeholder:"KIND" default:"exclusive" group:"Requests" help:"exclusive: get a lock, then release it (Redis: SET NX and DEL, memcached: add and delete). shared: the same with a shared lock. inspect: ask whether it is locked. (${default})"`
	Names       load.Names    `enum:"one,uniform,zipf,new" env:"-" placeholder:"KIND" default:"uniform" group:"Requests" help:"one: a single hot name. uniform: any, all as likely. zipf: any, a few of them hot. new: names never seen before. (${default})"`
	NameCount   int           `env:"-" placeholder:"N" default:"100000" group:"Requests" help:"How many names uniform and zipf choose from (${default})."`
	NameSize    int           `env:"-" placeholder:"BYTES" default:"16" group:"Requests" help:"Length of a name (${default})."`
	ServerPID   int           `name:"server-pid" env:"-" placeholder:"PID" group:"Output" help:"Linux: also report what the server's process costs, in CPU time a request and resident memory."`
	JSON        bool          `name:"json" env:"-" group:"Output" help:"Print one JSON document."`
}

// Help is printed by `lockd bench --help`.
func (*benchCmd) Help() string {
	return `Prints what it measured at the end, also when Ctrl-C or SIGTERM ends it early; progress goes to stderr.
Refusals, a lock that another connection holds, are no errors. To compare with, --server also takes
redis://HOST:PORT and memcached://HOST:PORT.

Examples:

	lockd bench -P 64
	lockd bench --short --names new
	lockd bench -c 500 --rate 50000 -d 30s --server-pid $(pidof lockd)
	lockd bench -s ws://127.0.0.1:9998/
	lockd bench -s tls://127.0.0.1:9990 --tls-ca ca.pem --token-file token
	lockd bench -s redis://127.0.0.1:6379

Exit codes:

	0   it ran to its end, or was ended early
	2   wrong usage
	69  the server cannot be reached, stopped replying, or replied nonsense
	74  the result, or progress, cannot be printed

The JSON document always has the same keys. Latencies are in microseconds; what was not measured is 0.`
}

// Validate is called by kong.
func (c *benchCmd) Validate() error {
	if c.ofLockd() {
		if targets, err := client.Targets(string(c.Server)); err == nil && len(targets) > 1 {
			return errors.New("--server: lockd bench measures one server, not several")
		}
		r := remote{c.endpoint}
		if err := r.Validate(); err != nil {
			return err
		}
		c.endpoint = r.endpoint // with what it has read
	}
	return c.options().Validate()
}

// ofLockd tells whether the server is a lockd.
func (c *benchCmd) ofLockd() bool {
	scheme, _, _ := strings.Cut(string(c.Server), "://")
	return scheme != "redis" && scheme != "memcached"
}

// greet finds out whether a server lets us in that asks who we are, or shows a
// certificate: what it may be that keeps us out, pkg/client says better.
func (c *benchCmd) greet(ctx context.Context) {
	if c.token == nil && c.tls == nil {
		return
	}
	c.warn()
	r := remote{c.endpoint}
	conn, err := client.Dial(ctx, r.options(), 1)
	if err != nil {
		fail(exitUnavailable, r.explain(err, c.ConnectTimeout))
	}
	conn.Close()
}

func (c *benchCmd) options() load.Options {
	return load.Options{
		Target:         string(c.Server),
		TLS:            c.tls,
		ConnectTimeout: c.ConnectTimeout,
		Connections:    c.Connections,
		Pipeline:       c.Pipeline,
		Short:          c.Short,
		Requests:       c.Requests,
		Duration:       c.Duration,
		Warmup:         c.Warmup,
		Mix:            c.Mix,
		Names:          c.Names,
		NameCount:      c.NameCount,
		NameSize:       c.NameSize,
		Rate:           c.Rate,
		Threads:        c.Threads,
		ServerPID:      c.ServerPID,
	}
}

// Run puts load on the server and prints the report.
func (c *benchCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second one ends the process
	progress := progress{line: statusLine{to: stderr}, terminal: isTerminal(os.Stderr)}
	c.greet(ctx)
	opts := c.options()
	if c.token != nil {
		token, err := c.token(ctx)
		if err != nil {
			fail(exitUnavailable, "--token-file: "+err.Error())
		}
		opts.Token = token
	}
	opts.OnProgress = progress.show
	report, err := load.Run(ctx, opts)
	progress.line.clear()
	if err == nil || report.Requests > 0 { // else there is nothing to show
		if c.JSON {
			printJSON(report)
		} else {
			report.WriteText(stdout)
		}
	}
	if err != nil {
		fail(exitUnavailable, err.Error())
	}
	return nil
}

// progress shows how the run stands: on a terminal in one line that is written
// over, else in a line every few seconds.
type progress struct {
	line     statusLine
	terminal bool
	calls    int
}

// plainEvery is how many reports, one a second, pass without a line when there
// is no terminal.
const plainEvery = 5

func (p *progress) show(report load.Progress) {
	p.calls++
	switch {
	case p.terminal:
		p.line.show(report.String())
	case p.calls%plainEvery == 0:
		fmt.Fprintln(p.line.to, report)
	}
}
