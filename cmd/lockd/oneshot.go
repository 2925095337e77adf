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
	"time"
	"unicode"
	"unicode/utf16"
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
	opts := o.options()
	opts.ReadTimeout = o.Timeout
	c, err := client.New(opts)
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

// print prints the answer: the document, or a table of rows. What comes from
// others is plain in them.
func (o *oneshot) print(document any, rows [][]string) error {
	if o.JSON {
		return printJSON(document)
	}
	writeRows(stdout, rows)
	return nil
}

// printJSON prints a document in one line.
func printJSON(document any) error {
	text, err := encode(document)
	if err == nil {
		fmt.Fprintln(stdout, text)
	}
	return err
}

// encode makes JSON of a document. What would be invisible or move the cursor is
// escaped: of that, package json does so below U+0020 only, and others' names go
// to terminals this way, too.
func encode(document any) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(document); err != nil {
		return "", err
	}
	text := strings.TrimSuffix(b.String(), "\n")
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if !strings.ContainsFunc(text, odd) {
		return text, nil
	}
	b.Reset()
	for _, r := range text { // all that is odd stands in strings
		if !odd(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String(), nil
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

type whoCmd struct{ oneshot }

func (*whoCmd) Help() string {
	return `To see what they hold: lockd dump -l. To end one: lockd kick ADDR.

Exit code 69 if the server cannot be reached or refuses, and 74 if the list cannot be printed.

The JSON document: clients, a list of addr and name (and name_base64 of a name that is not UTF-8).`
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
		rows = append(rows, []string{plain(e.Addr), plain(e.Name)})
	}
	return c.print(answer, rows)
}

type statsCmd struct{ oneshot }

func (*statsCmd) Help() string {
	return `docs/protocol.md says what they count. The JSON document: each counter by its name. Exit code 69 if the server
cannot be reached or refuses, and 74 if they cannot be printed.`
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
		rows = append(rows, []string{plain(key), fmt.Sprintf("%*d", width, counters[key])})
	}
	return c.print(counters, rows)
}

type pingCmd struct{ oneshot }

func (*pingCmd) Help() string {
	return `Prints how long connecting took, and then a request and its reply. The JSON document:
server, addr (this client's, as the server sees it), connect_ms, rtt_ms. It needs no token, so it does for a probe of
the server's health: where the server asks for one and there is none, addr is empty. Exit code 69 if the server does
not answer, and 74 if that cannot be printed.`
}

func (c *pingCmd) Run() error {
	var connected, replied time.Duration
	var me client.Peer
	var note string
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
		if errors.Is(err, client.ErrNotAuthenticated) && c.TokenFile == "" {
			note = ", and asks for a token (--token-file)" // a server that lives
			return nil
		}
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
		"%s replied in %.3f ms (connected in %.3f ms)%s", c.Server, ms(replied), ms(connected), note)}})
}
