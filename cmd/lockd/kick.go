package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/nylen/lockd/pkg/client"
)

type kickCmd struct {
	oneshot
	Yes  bool       `short:"y" env:"-" help:"Do not ask."`
	Addr []verbatim `arg:"" name:"addr" help:"Addresses of clients, as lockd dump, inspect and who print them."`
}

func (*kickCmd) Help() string {
	return `Ends the connections of clients, so that all that they hold is free:

	lockd kick 10.0.0.7:51234

On a terminal it lists what will be lost, and asks. The server allows this to
admins (--token-file) and, if it asks nobody who they are, from its own machine
only: by a unix socket or a loopback address.

What becomes of a client: a command that lockd run has started under the lock is
ended, as whenever the lock is lost. Who merely waits, as lockd run and programs
with a Locker do, connects again and waits on, at the end of the line; to be rid
of it, end its process. An address with #S is of one of many owners on a
connection, and all of them are ended.

Exit codes:

	0   all of them were there, and are not any more
	1   one of them was not there, or the answer was no
	2   wrong usage, also: there is no terminal to ask, and no --yes
	69  the server cannot be reached, refused, or is too old

The JSON document: kicked and missing, lists of addresses.`
}

// Validate is called by kong.
func (c *kickCmd) Validate() error {
	if err := c.remote.Validate(); err != nil {
		return err
	}
	for _, a := range c.Addr {
		if strings.TrimSpace(string(a)) == "" || strings.Contains(string(a), "\n") {
			return fmt.Errorf("<addr>: %q is no address, such as 10.0.0.7:51234 or unix:7", string(a))
		}
	}
	if len(c.Addr) > 0 && !c.Yes && !isTerminal(os.Stdin) { // else kong says that there is none
		return errors.New("there is no terminal to ask whether to end the client: give --yes")
	}
	return nil
}

// kicked is what became of the clients.
type kicked struct {
	Kicked  []string `json:"kicked"`
	Missing []string `json:"missing"`
}

func (c *kickCmd) Run() error {
	answer := kicked{[]string{}, []string{}}
	err := c.do(func(ctx context.Context, cl *client.Client) error {
		if !c.Yes && !c.ask(ctx, cl) {
			return nil
		}
		err := c.kick(ctx, cl, &answer)
		if err != nil && len(answer.Kicked) > 0 {
			c.tell(answer) // these are gone, whatever has become of the others
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.tell(answer); err != nil {
		return err
	}
	if len(answer.Missing) > 0 {
		for i, a := range answer.Missing {
			answer.Missing[i] = plain(a)
		}
		fail(exitFree, "no such client: "+strings.Join(answer.Missing, ", "))
	}
	if len(answer.Kicked) == 0 {
		exit(exitFree)
	}
	return nil
}

// kick ends the clients, one after the other.
func (c *kickCmd) kick(ctx context.Context, cl *client.Client, answer *kicked) error {
	for _, a := range c.Addr {
		switch err := cl.Kick(ctx, string(a)); {
		case err == nil:
			answer.Kicked = append(answer.Kicked, string(a))
		case errors.Is(err, client.ErrNoSuchClient) && slices.ContainsFunc(answer.Kicked, func(kicked string) bool {
			return connectionOf(kicked) == connectionOf(string(a))
		}): // with another owner on its connection
			answer.Kicked = append(answer.Kicked, string(a))
		case errors.Is(err, client.ErrNoSuchClient):
			answer.Missing = append(answer.Missing, string(a))
		case errors.Is(err, client.ErrNotAllowed):
			return errors.New("not allowed: only for admins and, where the server asks nobody who they are, for clients on its own machine")
		case errors.Is(err, client.ErrNoKick):
			return errors.New("the server is too old to end clients")
		default:
			return err
		}
	}
	return nil
}

func (c *kickCmd) tell(answer kicked) error {
	var rows [][]string
	for _, a := range answer.Kicked {
		rows = append(rows, []string{"kicked " + plain(a)})
	}
	return c.print(answer, rows)
}

// connectionOf returns the address of the connection that an owner is on.
func connectionOf(addr string) string {
	connection, _, _ := strings.Cut(addr, "#")
	return connection
}

// listed is how much of what will be lost is listed.
const listed = 20

// ask lists what will be lost, and asks.
func (c *kickCmd) ask(ctx context.Context, cl *client.Client) bool {
	lost := new(listing)
	var why string
	for e, err := range cl.List(ctx, "") {
		if err != nil {
			if why = notTold(err); why == "" {
				fail(exitUnavailable, c.explain(err, c.Timeout))
			}
			break
		}
		if e.Addr != "" && slices.ContainsFunc(c.Addr, func(a verbatim) bool { return connectionOf(string(a)) == connectionOf(e.Addr) }) {
			lost.add(e)
		}
	}
	lost.sort()
	switch {
	case why != "":
		fmt.Fprintf(stderr, "What will be lost is not known (%s).\n", why)
	case len(lost.rows) == 0:
		fmt.Fprintln(stderr, "Holds nothing and waits for nothing.")
	default:
		fmt.Fprintln(stderr, "This will be lost:")
		rows := [][]string{{"NAME", "KIND", "STATE", "SINCE", "ADDR", "HOLDER"}}
		for _, r := range lost.rows[:min(len(lost.rows), listed)] {
			e := r.entry()
			rows = append(rows, []string{plain(e.Name), plain(string(e.Kind)), plain(string(e.State)), sinceOf(e), plain(e.Addr), nameCell(e)})
		}
		writeRows(stderr, rows)
		if more := len(lost.rows) - listed; more > 0 {
			fmt.Fprintf(stderr, "... and %d more\n", more)
		}
	}
	fmt.Fprintf(stderr, "End %s? [y/N] ", c.them())
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true
	}
	if !strings.HasSuffix(line, "\n") {
		fmt.Fprintln(stderr)
	}
	return false
}

func (c *kickCmd) them() string {
	var all []string
	for _, a := range c.Addr {
		all = append(all, plain(string(a)))
	}
	return strings.Join(all, " and ")
}
