package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nylen/lockd/pkg/client"
)

type inspectCmd struct {
	oneshot
	Exclusive bool `env:"-" xor:"kind" help:"Ask for the exclusive lock only."`
	Shared    bool `env:"-" xor:"kind" help:"Ask for the shared lock only."`
	emptyName
	Name lockName `arg:"" help:"The lock."`
}

func (*inspectCmd) Help() string {
	return `Tells whether the exclusive lock of that name is held, and the shared one,
which is another; who holds them, since when, and who waits, in the order of
their turn; and how the rate of that name is:

	lockd inspect deploy

To end who holds it: lockd kick ADDR. What became of one that is free: lockd
losses NAME.

Exit codes:

	0   the lock is held, be it the exclusive or the shared one
	1   neither is
	2   wrong usage
	69  the server cannot be reached, or refused
	74  the answer, whatever it is, cannot be printed

With --exclusive or --shared they are about that one.

Of a server that is too old it tells the holders' names alone, and of one that was
started with --disable-dump, not even these; then "look" is false in the JSON
document, and what is not known is empty or 0. Its keys: name, held (as the exit code), look, exclusive (held,
holders, waiting), shared (held, count, holders, waiting), rate (null, or
limited, open, all_open_in_ms). Of a holder: state, token (0 for a shared lock),
addr, name (the address, if none is registered), since_ms, process (null, or
pid, uid, program; of clients on unix sockets). Of who waits, place (1 is next)
and limit (0 for an exclusive lock) instead of state and token. Whatever is not
UTF-8 stands in name_base64, too; so it is in the documents of the other
commands.`
}

func (c *inspectCmd) Run() error {
	name := string(c.Name)
	var entries []client.Entry
	var held bool
	var shared int
	var why string
	err := c.do(func(ctx context.Context, cl *client.Client) (err error) {
		// The answers to these wait for what is just being released.
		if held, err = cl.Inspect(ctx, name); err != nil {
			return err
		}
		if shared, err = cl.InspectShared(ctx, name); err != nil {
			return err
		}
		if entries, err = cl.Look(ctx, name); errors.Is(err, client.ErrNoLook) {
			why = "the server is too old to tell since when, and who waits"
			entries, err = heldBy(ctx, cl, &name)
		}
		if told := notTold(err); told != "" {
			why, err = told, nil
		}
		return err
	})
	if err != nil {
		return err
	}
	d := documentOf(name, entries)
	if why != "" {
		d.Exclusive.Held = d.Exclusive.Held || held
		d.Shared.Count = max(d.Shared.Count, shared) // some old servers always say 0 here, see client.InspectShared
		d.Shared.Held = d.Shared.Count > 0
	}
	d.Held = d.Exclusive.Held && !c.Shared || d.Shared.Held && !c.Exclusive
	err = c.print(struct {
		lockDocument
		Look bool `json:"look"`
	}{d, why == ""}, c.rows(d, entries, why))
	if err != nil {
		return err
	}
	if !d.Held {
		exit(exitFree)
	}
	return nil
}

// rows is the answer for people.
func (c *inspectCmd) rows(d lockDocument, entries []client.Entry, why string) (rows [][]string) {
	add := func(format string, args ...any) { rows = append(rows, []string{fmt.Sprintf(format, args...)}) }
	if !c.Shared {
		text := "free"
		if d.Exclusive.Held {
			text = "held"
			if len(d.Exclusive.Holders) > 0 && d.Exclusive.Holders[0].Token > 0 {
				text += fmt.Sprintf(", token %d", d.Exclusive.Holders[0].Token)
			}
		}
		add("exclusive: %s%s", text, waits(len(d.Exclusive.Waiting)))
	}
	if !c.Exclusive {
		text := "free"
		if d.Shared.Held {
			text = fmt.Sprintf("held by %d", d.Shared.Count)
		}
		add("shared:    %s%s", text, waits(len(d.Shared.Waiting)))
	}
	if !c.Exclusive && !c.Shared {
		for _, e := range entries {
			if e.Kind == client.KindRate {
				add("rate:      %d open, all of it %s", e.Count, sinceOf(e))
			}
		}
	}
	if why != "" {
		add("(%s)", why)
	}
	header := false
	for place, e := range places(entries) {
		switch {
		case e.Kind == client.KindRate,
			e.Kind == client.KindExclusive && c.Shared, e.Kind == client.KindShared && c.Exclusive:
			continue
		}
		if !header {
			header = true
			rows = append(rows, nil, []string{"KIND", "STATE", "SINCE", "ADDR", "HOLDER"})
		}
		rows = append(rows, []string{plain(string(e.Kind)), stateOf(e, place), sinceOf(e), addrCell(e), nameCell(e)})
	}
	return rows
}

func waits(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return ", 1 waits"
	}
	return fmt.Sprintf(", %d wait", n)
}

// nameCell is who somebody is, for a table that has the address in it already.
func nameCell(e client.Entry) string {
	if who := whoIs(e); who != "" {
		return who
	}
	return unknown
}
