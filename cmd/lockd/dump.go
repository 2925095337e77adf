package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

type dumpCmd struct {
	oneshot
	Long  bool          `short:"l" env:"-" help:"Also list who waits, in the order of their turn, and rates, with fencing tokens, counts and processes."`
	Watch bool          `env:"-" help:"List again and again, until Ctrl-C: on a terminal in place of the last list, else behind it and a line with the time."`
	Every time.Duration `env:"-" placeholder:"TIME" default:"2s" help:"With --watch: how often (${default})."`
	emptyName
	Names []lockName `arg:"" optional:"" name:"name" help:"List these only; NAME* means all names that begin so."`
}

func (*dumpCmd) Help() string {
	return `Lists the locks that are held, exclusive and shared ones, since when, and by
whom: the client's address, and the name under which it registered.

	lockd dump                        all
	lockd dump deploy 'build *' -l    some, with who waits
	lockd dump --watch

More about one lock: lockd inspect NAME. To end a client: lockd kick ADDR.

TOKEN/COUNT is an exclusive lock's fencing token, how many hold a shared lock,
or how many units of a rate are open. SINCE of a rate is when all of them will
be. PROCESS is known of clients on unix sockets.

Exit codes:

	0   it is listed, be it empty
	2   wrong usage
	69  the server cannot be reached, or refused
	74  it cannot be printed

The JSON document: look (false if the server is too old to tell more than who
holds what), and locks, a list of documents as those of lockd inspect, with all
that there is, sorted by name. With --watch it is one in a line each time.

A list is sorted here, so all of it is in memory, some 260 bytes a row if a few
clients hold most, and more if each has another holder. With a name that has ": "
in it, an older server's list may be wrong: it puts that between a lock's name and
its holder.`
}

// Validate is called by kong.
func (c *dumpCmd) Validate() error {
	if err := c.remote.Validate(); err != nil {
		return err
	}
	if slices.Contains(c.Names, "") && !c.EmptyName {
		return fmt.Errorf("<name>: %w", errEmptyName)
	}
	return nil
}

// pattern is which names to list.
type pattern struct {
	text   string
	prefix bool
}

func patterns(names []lockName) (all []pattern) {
	if len(names) == 0 {
		return []pattern{{"", true}}
	}
	for _, n := range names {
		text, prefix := strings.CutSuffix(string(n), "*")
		all = append(all, pattern{text, prefix})
	}
	return all
}

func (p pattern) matches(name string) bool {
	return name == p.text || p.prefix && strings.HasPrefix(name, p.text)
}

// list asks for all that is to be printed, and tells whether the server could
// look.
func (c *dumpCmd) list(ctx context.Context, cl *client.Client) (found *listing, looked bool, err error) {
	all := patterns(c.Names)
	found = new(listing)
	for i, p := range all {
		add := func(e client.Entry) {
			if p.matches(e.Name) && !slices.ContainsFunc(all[:i], func(p pattern) bool { return p.matches(e.Name) }) {
				found.add(e)
			}
		}
		if err := look(ctx, cl, p, add); errors.Is(err, client.ErrNoLook) {
			found, err = c.listOld(ctx, cl, all)
			return found, false, err
		} else if err != nil {
			return nil, false, err
		}
	}
	found.sort()
	return found, true, nil
}

func look(ctx context.Context, cl *client.Client, p pattern, add func(client.Entry)) error {
	if !p.prefix {
		entries, err := cl.Look(ctx, p.text)
		for _, e := range entries {
			add(e)
		}
		return err
	}
	for e, err := range cl.List(ctx, p.text) {
		if err != nil {
			return err
		}
		add(e)
	}
	return nil
}

// listOld is list for servers that cannot look.
func (c *dumpCmd) listOld(ctx context.Context, cl *client.Client, all []pattern) (*listing, error) {
	var name *string
	if len(all) == 1 && !all[0].prefix {
		name = &all[0].text // of which there is no doubt where it ends
	}
	entries, err := heldBy(ctx, cl, name)
	found := new(listing)
	for _, e := range entries {
		if slices.ContainsFunc(all, func(p pattern) bool { return p.matches(e.Name) }) {
			found.add(e)
		}
	}
	found.sort()
	return found, err
}

func (c *dumpCmd) Run() error {
	return c.do(func(ctx context.Context, cl *client.Client) error {
		if c.Watch {
			var stop context.CancelFunc
			ctx, stop = signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer stop()
		}
		for {
			found, looked, err := c.list(ctx, cl)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return unless("--disable-dump", err)
			}
			c.show(found, looked)
			if !c.Watch || stdout.err != nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(c.Every):
			}
		}
	})
}

// show prints a list.
func (c *dumpCmd) show(found *listing, looked bool) {
	switch {
	case c.JSON:
		writeDocument(stdout, found, looked)
	case !c.Watch:
		writeTable(stdout, c.rows(found))
	case canRedraw(stdout.fd()):
		var b strings.Builder
		writeTable(&b, c.rows(found))
		columns, rows := terminalSize(stdout.fd())
		fmt.Fprint(stdout, screen(fmt.Sprintf("%s  %s  every %v, ends with Ctrl-C", c.Server,
			time.Now().Format(time.TimeOnly), c.Every), b.String(), columns, rows))
	default:
		fmt.Fprintln(stdout, "---", time.Now().Format(time.RFC3339))
		writeTable(stdout, c.rows(found))
	}
}

// screen replaces what a terminal shows by a title and as much of a text as
// there is room for.
func screen(title, text string, columns, rows int) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := max(rows-3, 2); len(lines) > room { // the title, what is missing, and the cursor
		lines = append(lines[:room], fmt.Sprintf("... and %d more", len(lines)-room))
	}
	var b strings.Builder
	b.WriteString("\x1b[H")
	for _, line := range append([]string{title}, lines...) {
		b.WriteString(fit(line, columns-1) + "\x1b[K\n")
	}
	return b.String() + "\x1b[J"
}

// rows are the table: a row for each hold and, if long, all else.
func (c *dumpCmd) rows(found *listing) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		header := []string{"NAME", "KIND", "SINCE", "ADDR", "HOLDER"}
		if c.Long {
			header = []string{"NAME", "KIND", "STATE", "SINCE", "TOKEN/COUNT", "ADDR", "HOLDER", "PROCESS"}
		}
		if !yield(header) {
			return
		}
		for _, entries := range found.names() {
			for place, e := range places(entries) {
				cells := c.cells(e, place)
				if cells != nil && !yield(cells) {
					return
				}
			}
		}
	}
}

// cells are the row of an entry, or nil if it has none.
func (c *dumpCmd) cells(e client.Entry, place int) []string {
	switch {
	case c.Long:
		return longRow(e, place)
	case place == 0 && e.Kind != client.KindRate:
		return []string{plain(e.Name), plain(string(e.Kind)), sinceOf(e), addrCell(e), nameCell(e)}
	}
	return nil
}

func longRow(e client.Entry, place int) []string {
	registered, process := unknown, unknown
	if e.Registered != e.Addr {
		registered = whoIs(e)
	}
	if p := processOf(e); p != "" {
		process = p
	}
	return []string{plain(e.Name), plain(string(e.Kind)), stateOf(e, place), sinceOf(e), numberOf(e), addrCell(e), registered, process}
}

func addrCell(e client.Entry) string {
	if e.Addr == "" {
		return unknown
	}
	return plain(e.Addr)
}

// writeDocument prints the JSON document, a name at a time.
func writeDocument(out io.Writer, found *listing, looked bool) {
	to := bufio.NewWriter(out)
	defer to.Flush()
	fmt.Fprintf(to, `{"look":%v,"locks":[`, looked)
	first := true
	for name, entries := range found.names() {
		text, _ := encode(documentOf(name, entries)) // it has nothing that cannot be encoded
		if !first {
			fmt.Fprint(to, ",")
		}
		first = false
		fmt.Fprint(to, text)
	}
	fmt.Fprintln(to, "]}")
}
