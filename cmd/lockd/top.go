package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

type topCmd struct {
	remote
	Every time.Duration `short:"d" env:"-" placeholder:"TIME" default:"1s" help:"How often to ask (${default})."`
	View  string        `env:"-" enum:"locks,clients,losses" default:"locks" help:"What to begin with: locks, clients or losses (${default})."`
	Sort  string        `env:"-" placeholder:"ORDER" help:"How to sort: queue, oldest, busiest or name; clients by locks, waits, bytes, oldest or name; losses by newest, longest or name."`
	Batch bool          `short:"b" env:"-" help:"Print lists as text, as where the output is no terminal."`
	Times int           `short:"n" env:"-" placeholder:"N" help:"Print so many lists as text; --batch alone prints one."`
	Rows  int           `env:"-" placeholder:"N" default:"20" max:"1000" help:"With --batch: how many rows (${default})."`
}

func (*topCmd) Help() string {
	var b strings.Builder
	b.WriteString(`Shows a server at work: its numbers and how near it is to its bounds, which
locks have the longest queues, are oldest or busiest, its clients, what was lost
and why. It asks for the first of a list only, over one connection, so it costs
the server little, whatever it holds. These few requests are among those that it
shows.

	lockd top -s tls://locks.example:9990 --token-file ops.token

Keys:

`)
	for _, line := range topHelp {
		fmt.Fprintf(&b, "\t%-13s %s\n", line[0], line[1])
	}
	b.WriteString(`
Where the output is no terminal, or TERM is dumb, it prints one list and ends:

	lockd top -b -n 10 -d 5s --sort busiest >busy.txt

What it does a second is not known of the first list, and a dash. NO_COLOR has it
use no colours. Rates are among the busiest, and in no other list.

Exit codes:

	0   it was ended by q or Ctrl-C, or all is printed
	2   wrong usage
	69  the server cannot be reached at the beginning, or refused
	74  it cannot be printed`)
	return b.String()
}

// topSorts are the words of --sort, in the order of topOrders.
var topSorts = [views][]string{
	viewLocks:   {"queue", "oldest", "busiest", "name"},
	viewClients: {"locks", "waits", "bytes", "oldest", "name"},
	viewLosses:  {"newest", "longest", "name"},
}

var errNoOrder = errors.New("no such order")

// sorted returns the number of an order.
func (c *topCmd) sorted(v topView) (int, error) {
	if c.Sort == "" {
		return 0, nil
	}
	for i, word := range topSorts[v] {
		if word == c.Sort {
			return i, nil
		}
	}
	return 0, fmt.Errorf("--sort: %q is none of %s: %w", c.Sort, strings.Join(topSorts[v], ", "), errNoOrder)
}

func (c *topCmd) view() topView {
	for v := range views {
		if strings.EqualFold(v.String(), c.View) {
			return v
		}
	}
	return viewLocks
}

// Validate is called by kong.
func (c *topCmd) Validate() error {
	if err := c.remote.Validate(); err != nil {
		return err
	}
	_, err := c.sorted(c.view())
	return err
}

func (c *topCmd) Run() error {
	opts := c.options()
	opts.ReadTimeout = topPatience
	poller := &topPoller{connect: func() (topSource, func(), error) {
		cl, err := client.New(opts)
		if err != nil {
			return nil, nil, err
		}
		version := func(ctx context.Context) string { return versionOf(ctx, opts) }
		return topServer{cl, version}, func() { cl.Close() }, nil
	}}
	m := newTopModel(string(c.Server), c.Every)
	m.view = c.view()
	m.orders[m.view], _ = c.sorted(m.view)
	first := poller.poll(context.Background(), m.want())
	if first.lost != nil {
		fail(exitUnavailable, c.explain(first.lost, topPatience))
	}
	m.got(first)
	if c.Batch || c.Times > 0 || !canRedraw(stdout.fd()) {
		c.print(m, poller)
		return nil
	}
	return c.watch(m, poller)
}

// print prints lists as text.
func (c *topCmd) print(m *topModel, poller *topPoller) {
	if m.pic.numbersErr != nil && m.pic.listErr != nil {
		fail(exitUnavailable, c.explain(m.pic.numbersErr, topPatience))
	}
	ctx := context.Background()
	for i := range max(c.Times, 1) {
		if i > 0 {
			time.Sleep(c.Every)
			want := m.want()
			want.count = max(want.count, c.Rows)
			m.got(poller.poll(ctx, want))
			fmt.Fprintln(stdout)
		}
		if m.lost != nil {
			fmt.Fprintf(stdout, "%s  %s\n", m.now.Format(time.RFC3339), c.explain(m.lost, topPatience))
		} else {
			writeRows(stdout, m.plainly(c.Rows))
		}
		if stdout.err != nil {
			return
		}
	}
}

// plainly is a picture as a table: a line for each part of what the screen shows
// above its list, and then the list in full width.
func (m *topModel) plainly(most int) (rows [][]string) {
	g := newGrid(160, 4)
	head := *m
	head.width, head.height, head.ascii = 160, 24, true
	head.drawHead(g)
	for i, line := range strings.Split(strings.TrimRight(g.String(), "\n"), "\n") {
		if i == 0 {
			line = m.now.Format(time.RFC3339) + "  " + m.target
			if ms, told := m.pic.numbers["uptime_ms"]; told {
				line += "  up " + ago(time.Duration(ms)*time.Millisecond)
			}
		}
		rows = append(rows, []string{line})
	}
	rows = append(rows, []string{""})
	var titles []string
	for _, column := range m.columns() {
		titles = append(titles, column.title)
	}
	list := m.rows()
	if len(list) == 0 {
		return append(rows, []string{m.nothing()})
	}
	rows = append(rows, titles)
	for _, row := range list[:min(len(list), most)] {
		rows = append(rows, row.cells)
	}
	return rows
}
