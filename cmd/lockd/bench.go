package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/load"
)

// benchCmd is the command line of the load generator. Numbers that are 0 take
// the defaults of internal/load, which the help texts repeat.
type benchCmd struct {
	Target      filled        `arg:"" optional:"" default:"tcp://127.0.0.1:9999" help:"tcp://HOST:PORT (or HOST:PORT or PORT alone) or unix:///PATH of a lockd; redis://HOST:PORT or memcached://HOST:PORT to compare with (${default})."`
	Connections int           `short:"c" env:"-" placeholder:"N" default:"50" group:"Load" help:"Connections (${default})."`
	Pipeline    int           `short:"P" env:"-" placeholder:"N" default:"1" group:"Load" help:"Requests that a connection sends without waiting for their replies (${default})."`
	Short       bool          `env:"-" group:"Load" help:"A connection for each request: connect, get a lock, read the reply, close; -c at a time. Latencies are from connecting to the reply. Redis and memcached need --names new, as they keep the locks."`
	Requests    int64         `short:"n" env:"-" placeholder:"N" group:"Load" help:"Stop after so many requests."`
	Duration    time.Duration `short:"d" env:"-" placeholder:"TIME" group:"Load" help:"Stop after so much time (5s, or with -n none)."`
	Warmup      time.Duration `env:"-" placeholder:"TIME" default:"1s" group:"Load" help:"Load before measuring begins (${default})."`
	Rate        float64       `env:"-" placeholder:"N" group:"Load" help:"Open loop: send N requests a second, whether replies come or not, and count latencies from when a request was due. Without it a connection sends when it has its replies."`
	Threads     int           `env:"-" placeholder:"N" group:"Load" help:"Threads of the load generator (half the cores)."`
	Mix         load.Mix      `enum:"exclusive,shared,inspect" env:"-" placeholder:"KIND" default:"exclusive" group:"Requests" help:"exclusive: get a lock, then release it (Redis: SET NX and DEL, memcached: add and delete). shared: the same with a shared lock. inspect: ask whether it is locked. (${default})"`
	Names       load.Names    `enum:"one,uniform,zipf,new" env:"-" placeholder:"KIND" default:"uniform" group:"Requests" help:"one: a single hot name. uniform: any, all as likely. zipf: any, a few of them hot. new: names never seen before. (${default})"`
	NameCount   int           `env:"-" placeholder:"N" default:"100000" group:"Requests" help:"How many names uniform and zipf choose from (${default})."`
	NameSize    int           `env:"-" placeholder:"BYTES" default:"16" group:"Requests" help:"Length of a name (${default})."`
	ServerPID   int           `name:"server-pid" env:"-" placeholder:"PID" group:"Output" help:"Linux: also report what the server's process costs, in CPU time a request and resident memory."`
	JSON        bool          `name:"json" env:"-" group:"Output" help:"Print the result as JSON."`
}

// Help is printed by `lockd bench --help`.
func (benchCmd) Help() string {
	return `Prints what it measured at the end, also when Ctrl-C or SIGTERM ends it early; progress goes to stderr.
Refusals, a lock that another connection holds, are no errors. A reply that cannot belong
to its request ends the run with exit code 1, and so does a server that stops replying.
Exit code 74 if the result, or progress, cannot be printed.

Examples:

    lockd bench -P 64
    lockd bench --short --names new
    lockd bench -c 500 --rate 50000 -d 30s --server-pid $(pidof lockd)
    lockd bench redis://127.0.0.1:6379`
}

// Run puts load on the target and prints the report.
func (c *benchCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second one ends the process
	progress := progressLine{to: stderr, terminal: isTerminal(os.Stderr)}
	report, err := load.Run(ctx, load.Options{
		Target:      string(c.Target),
		Connections: c.Connections,
		Pipeline:    c.Pipeline,
		Short:       c.Short,
		Requests:    c.Requests,
		Duration:    c.Duration,
		Warmup:      c.Warmup,
		Mix:         c.Mix,
		Names:       c.Names,
		NameCount:   c.NameCount,
		NameSize:    c.NameSize,
		Rate:        c.Rate,
		Threads:     c.Threads,
		ServerPID:   c.ServerPID,
		OnProgress:  progress.show,
	})
	progress.clear()
	if err != nil && report.Requests == 0 { // nothing to show
		return err
	}
	if c.JSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return errors.Join(out.Encode(report), err)
	}
	return errors.Join(report.WriteText(stdout), err)
}

// progressLine shows how the run stands: on a terminal in one line that is
// written over, else in a line every few seconds.
type progressLine struct {
	to       io.Writer
	terminal bool
	calls    int
}

// plainEvery is how many progress reports, one a second, pass without a line
// when there is no terminal.
const plainEvery = 5

func (l *progressLine) show(p load.Progress) {
	l.calls++
	switch {
	case l.terminal:
		fmt.Fprintf(l.to, "\r%s\x1b[K", p)
	case l.calls%plainEvery == 0:
		fmt.Fprintln(l.to, p)
	}
}

func (l *progressLine) clear() {
	if l.terminal && l.calls > 0 {
		fmt.Fprint(l.to, "\r\x1b[K")
	}
}
