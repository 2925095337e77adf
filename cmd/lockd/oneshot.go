package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nylen/lockd/pkg/client"
)

// The commands that ask a server one thing and print the answer.

// oneshot is what they have in common.
type oneshot struct {
	remote
	Timeout time.Duration `env:"-" placeholder:"TIME" default:"5s" help:"How long the server may take to answer (${default})."`
	JSON    bool          `env:"-" help:"Print one JSON document."`
}

// do asks the server. What goes wrong ends the process.
func (o *oneshot) do(ask func(ctx context.Context, c *client.Client) error) error {
	c, err := client.New(client.Options{
		Target: string(o.Server), ConnectTimeout: o.ConnectTimeout, ReadTimeout: o.Timeout,
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := ask(context.Background(), c); err != nil {
		fail(exitUnavailable, o.explain(err, o.Timeout))
	}
	return nil
}

// unless says which flag of the server has disabled what was asked for.
func unless(flags string, err error) error {
	if errors.Is(err, client.ErrDisabled) {
		return errors.New("disabled: the server was started with " + flags)
	}
	return err
}

// raw is the bytes of a name that JSON cannot carry, where names that are not
// UTF-8 would look alike; empty for others.
func raw(name string) string {
	if utf8.ValidString(name) {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(name))
}

// rawAll is the same for a list, all of it if one name needs it.
func rawAll(names []string) (all []string) {
	if !slices.ContainsFunc(names, func(n string) bool { return raw(n) != "" }) {
		return nil
	}
	for _, n := range names {
		all = append(all, base64.StdEncoding.EncodeToString([]byte(n)))
	}
	return all
}

// print prints the answer: the document, or a table of rows.
func (o *oneshot) print(document any, rows [][]string) error {
	if o.JSON {
		return printJSON(document)
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = plain(cell)
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// printJSON prints a document in one line.
func printJSON(document any) error {
	e := json.NewEncoder(stdout)
	e.SetEscapeHTML(false)
	return e.Encode(document)
}

// plain spells a name for a table: as it is, or in quotes with escapes if
// otherwise it would be invisible, move the cursor or not be UTF-8. Not on
// terminals alone: a pipe often ends in one.
func plain(name string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if name == "" || name[0] == '"' || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return strconv.Quote(name)
	}
	return name
}

type inspectCmd struct {
	oneshot
	emptyName
	Name lockName `arg:"" help:"The lock."`
}

func (*inspectCmd) Help() string {
	return `Prints "held" or "free", and how many hold the shared lock of that name.

Exit codes:

	0   somebody holds the exclusive or the shared lock
	1   nobody does
	2   wrong usage
	69  the server cannot be reached, or refused
	74  the answer, whatever it is, cannot be printed

The JSON document: name, held (the exclusive lock), shared (a number). A name that is not UTF-8 stands in
name_base64, too; so it is in the documents of the other commands.`
}

func (c *inspectCmd) Run() error {
	answer := struct {
		Name   string `json:"name"`
		Raw    string `json:"name_base64,omitempty"`
		Held   bool   `json:"held"`
		Shared int    `json:"shared"`
	}{Name: string(c.Name), Raw: raw(string(c.Name))}
	err := c.do(func(ctx context.Context, cl *client.Client) (err error) {
		if answer.Held, err = cl.Inspect(ctx, answer.Name); err == nil {
			answer.Shared, err = cl.InspectShared(ctx, answer.Name)
		}
		return err
	})
	if err != nil {
		return err
	}
	text := "free"
	if answer.Held {
		text = "held"
	}
	if answer.Shared > 0 {
		text += fmt.Sprintf(", shared lock held by %d", answer.Shared)
	}
	if err := c.print(answer, [][]string{{text}}); err != nil {
		return err
	}
	if !answer.Held && answer.Shared == 0 {
		exit(exitFree)
	}
	return nil
}

type dumpCmd struct {
	oneshot
	emptyName
	Name *lockName `arg:"" optional:"" help:"List the holders of this lock only."`
}

func (*dumpCmd) Help() string {
	return `Lists the locks that are held, exclusive and shared ones, and who holds them: by registered name, or
else by address. The JSON document: exclusive, a list of name and holder; shared, a list of name and holders;
those that are not UTF-8 in name_base64, holder_base64 and holders_base64, too.

The reply that this is made of puts ": " between a lock's name and its holder. Where a holder has registered a
name with ": " in it, the two cannot be told apart for certain.`
}

type exclusiveLock struct {
	Name      string `json:"name"`
	RawName   string `json:"name_base64,omitempty"`
	Holder    string `json:"holder"`
	RawHolder string `json:"holder_base64,omitempty"`
}

type sharedLock struct {
	Name       string   `json:"name"`
	RawName    string   `json:"name_base64,omitempty"`
	Holders    []string `json:"holders"`
	RawHolders []string `json:"holders_base64,omitempty"`
}

func (c *dumpCmd) Run() error {
	answer := struct {
		Exclusive []exclusiveLock `json:"exclusive"`
		Shared    []sharedLock    `json:"shared"`
	}{[]exclusiveLock{}, []sharedLock{}}
	err := c.do(func(ctx context.Context, cl *client.Client) error {
		exclusive, shared := make(map[string]string), make(map[string][]string)
		var err error
		if c.Name == nil {
			if exclusive, err = cl.DumpAll(ctx); err == nil {
				shared, err = cl.DumpAllShared(ctx)
			}
		} else {
			name := string(*c.Name)
			var held bool
			var holder string
			var holders []string
			if holder, held, err = cl.Dump(ctx, name); held {
				exclusive[name] = holder
			}
			if err == nil {
				holders, err = cl.DumpShared(ctx, name)
			}
			if len(holders) > 0 {
				shared[name] = holders
			}
		}
		for _, name := range slices.Sorted(maps.Keys(exclusive)) {
			holder := exclusive[name]
			answer.Exclusive = append(answer.Exclusive, exclusiveLock{name, raw(name), holder, raw(holder)})
		}
		for _, name := range slices.Sorted(maps.Keys(shared)) {
			holders := shared[name]
			answer.Shared = append(answer.Shared, sharedLock{name, raw(name), holders, rawAll(holders)})
		}
		return unless("--disable-dump", err)
	})
	if err != nil {
		return err
	}
	rows := [][]string{{"NAME", "KIND", "HOLDER"}}
	for _, l := range answer.Exclusive {
		rows = append(rows, []string{l.Name, "exclusive", l.Holder})
	}
	for _, l := range answer.Shared {
		for _, holder := range l.Holders {
			rows = append(rows, []string{l.Name, "shared", holder})
		}
	}
	return c.print(answer, rows)
}

type whoCmd struct{ oneshot }

func (*whoCmd) Help() string {
	return `The JSON document: clients, a list of addr and name (and name_base64 of a name that is not UTF-8).`
}

func (c *whoCmd) Run() error {
	type entry struct {
		Addr string `json:"addr"`
		Name string `json:"name"`
		Raw  string `json:"name_base64,omitempty"`
	}
	answer := struct {
		Clients []entry `json:"clients"`
	}{[]entry{}}
	err := c.do(func(ctx context.Context, cl *client.Client) error {
		peers, err := cl.Clients(ctx, "")
		for _, p := range peers {
			answer.Clients = append(answer.Clients, entry{p.Addr, p.Name, raw(p.Name)})
		}
		return unless("--disable-dump or --disable-registry", err)
	})
	if err != nil {
		return err
	}
	rows := [][]string{{"ADDR", "NAME"}}
	for _, e := range answer.Clients {
		rows = append(rows, []string{e.Addr, e.Name})
	}
	return c.print(answer, rows)
}

type statsCmd struct{ oneshot }

func (*statsCmd) Help() string {
	return `docs/protocol.md says what they count. The JSON document: each counter by its name.`
}

func (c *statsCmd) Run() error {
	var counters map[string]int64
	err := c.do(func(ctx context.Context, cl *client.Client) (err error) {
		counters, err = cl.Stats(ctx)
		return err
	})
	if err != nil {
		return err
	}
	width := 0
	for _, n := range counters {
		width = max(width, len(strconv.FormatInt(n, 10)))
	}
	var rows [][]string
	for _, key := range slices.Sorted(maps.Keys(counters)) {
		rows = append(rows, []string{key, fmt.Sprintf("%*d", width, counters[key])})
	}
	return c.print(counters, rows)
}

type pingCmd struct{ oneshot }

func (*pingCmd) Help() string {
	return `Prints how long connecting took, and then a request and its reply. The JSON document:
server, addr (this client's, as the server sees it), connect_ms, rtt_ms. Exit code 69 if the server does not answer,
and 74 if that cannot be printed.`
}

func (c *pingCmd) Run() error {
	var connected, replied time.Duration
	var me client.Peer
	err := c.do(func(ctx context.Context, cl *client.Client) (err error) {
		begin := time.Now()
		select {
		case <-cl.Connected():
		case <-cl.Lost():
			return cl.Err()
		}
		connected = time.Since(begin)
		// Not `ping`, which older servers do not know.
		me, err = cl.Name(ctx)
		replied = time.Since(begin) - connected
		return err
	})
	if err != nil {
		return err
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return c.print(struct {
		Server  string  `json:"server"`
		Addr    string  `json:"addr"`
		Connect float64 `json:"connect_ms"`
		RTT     float64 `json:"rtt_ms"`
	}{string(c.Server), me.Addr, ms(connected), ms(replied)}, [][]string{{fmt.Sprintf(
		"%s replied in %.3f ms (connected in %.3f ms)", c.Server, ms(replied), ms(connected))}})
}
