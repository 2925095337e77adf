// Command middleware limits what an HTTP server does: how many requests it
// serves at a time, by a shared lock with a limit, and how many one visitor may
// make, by a rate limiter. Both hold for all processes that use the same lockd
// server. middleware.go is what to copy.
//
//	go run ./examples/middleware
//
// Without flags it brings its own lockd, makes requests to itself, and prints
// what became of them. With -target it uses a server that is there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

const usage = `usage: middleware [-target ADDRESS]

Puts limits in front of an HTTP server, makes requests to it, and prints what
became of them.

`

func main() {
	flags := flag.NewFlagSet("middleware", flag.ContinueOnError)
	target := flags.String("target", os.Getenv("LOCKD_SERVER"), "`ADDRESS` of a server, such as tls://HOST:PORT, for which the\nvariables of lockd's own commands count, such as\nLOCKD_TOKEN_FILE (default: LOCKD_SERVER, or one in this process)")
	parse(flags, os.Args[1:], usage)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *target, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "middleware:", err)
		os.Exit(1)
	}
}

// parse reads the command line. Help that was asked for goes to stdout.
func parse(flags *flag.FlagSet, args []string, usage string) {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v (see %[1]s --help)\n", flags.Name(), err)
		os.Exit(2)
	}
}

func run(ctx context.Context, target string, out io.Writer) (err error) {
	var opts client.LockerOptions
	if target != "" {
		opts.Options, err = client.FromEnv(target)
		if err != nil {
			return err
		}
	} else {
		lockd, err := server.New(server.Options{})
		if err != nil {
			return err
		}
		defer lockd.Shutdown(context.WithoutCancel(ctx))
		opts.Dial = func(context.Context) (net.Conn, error) { return lockd.Dial() }
	}
	locker, err := client.NewLocker(opts)
	if err != nil {
		return err
	}
	defer locker.Close()

	const work = 250 * time.Millisecond
	limits := &Limits{
		Locker:     locker,
		Name:       "example",
		Concurrent: 2,
		Wait:       time.Second,
		Rate:       5,
		Per:        time.Minute,
		// An example has no log-in, and visitors that say who they are.
		Visitor: func(r *http.Request) string { return r.URL.Query().Get("visitor") },
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: limits.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(work)
		io.WriteString(w, "done\n")
	}))}
	var serving sync.WaitGroup
	serving.Go(func() {
		if e := s.Serve(l); !errors.Is(e, http.ErrServerClosed) {
			err = e
		}
	})
	defer func() {
		s.Shutdown(context.WithoutCancel(ctx))
		serving.Wait()
	}()

	// A client of its own, whose connections end with the example.
	web := &http.Client{Transport: &http.Transport{}}
	defer web.CloseIdleConnections()
	ask := func(visitor string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, "GET", "http://"+l.Addr().String()+"/?visitor="+visitor, nil)
		if err != nil {
			return nil, err
		}
		resp, err := web.Do(r)
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return resp, err
	}

	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer table.Flush()
	fmt.Fprintln(table, "who\tstatus\tRetry-After\ttimes")
	if err := tell(table, "one visitor, one after another", times(7, false, func(int) (*http.Response, error) { return ask("alice") })); err != nil {
		return err
	}
	return tell(table, "20 visitors at once", times(20, true, func(i int) (*http.Response, error) { return ask(fmt.Sprint("visitor-", i)) }))
}

// An outcome is what a request came to.
type outcome struct {
	status     int
	retryAfter string
	err        error
}

// times asks n times, all at once or one after another.
func times(n int, atOnce bool, ask func(int) (*http.Response, error)) []outcome {
	outcomes := make([]outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			resp, err := ask(i)
			if err != nil {
				outcomes[i].err = err
				return
			}
			outcomes[i] = outcome{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
		})
		if !atOnce {
			wg.Wait()
		}
	}
	wg.Wait()
	return outcomes
}

// tell prints how often there was which outcome, in the order in which they
// were first seen.
func tell(table io.Writer, who string, outcomes []outcome) error {
	count := make(map[outcome]int)
	var order []outcome
	for _, o := range outcomes {
		if o.err != nil {
			return o.err
		}
		if count[o]++; count[o] == 1 {
			order = append(order, o)
		}
	}
	for _, o := range order {
		fmt.Fprintf(table, "%s\t%d %s\t%s\t%d\n", who, o.status, http.StatusText(o.status), o.retryAfter, count[o])
	}
	return nil
}
