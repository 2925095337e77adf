package main

import (
	"context"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/pkg/client"
)

// shellCmd passes requests on to a server: those that people type, see
// prompt.go, or those of a script, see script.go.
type shellCmd struct {
	remote
	verbs map[string]session.Verb
}

func (*shellCmd) Help() string {
	return `On a terminal it asks for requests, and shows the replies as the server sends them. Tab completes verbs,
and names that somebody holds or waits for; "help" lists the verbs. Ctrl-C ends a wait; Ctrl-D or "quit" ends the
shell, and with it all that it holds. Lines are kept in $XDG_STATE_HOME/lockd/history (~/.local/state), but none
with a token, for which "auth" alone asks unseen.

	$ lockd shell
	127.0.0.1:9999> gw 5000 nightly
	1783412345678901 Lock Get Success: nightly  (0.21 ms)

Otherwise it reads a script, a request a line, and prints the replies, as nc does and nothing else; lines that
begin with # are skipped. The locks are released when the script ends: it is for doing things in a row. To hold a
lock while something else runs there is lockd run.

	$ printf 'g foo\nsg bar\n' | lockd shell
	1 Lock Get Success: foo
	1 Shared Lock Get Success: bar

A script speaks protocol 1, so its replies have their text; "bye" ends it. On a terminal the shell speaks protocol
2 with servers that have it, in session 0, whose number it leaves out: there each request has a reply, and that of a
get is the fencing token.

Exit codes:

	0   all was sent and replied to, whatever the replies are
	1   a line of the script was no request: the server does not know it
	2   wrong usage
	69  the server cannot be reached, or was lost before the end of the script
	74  the replies cannot be printed`
}

// Run ends the process itself.
func (c *shellCmd) Run() error {
	c.verbs = make(map[string]session.Verb)
	for _, v := range verbs() {
		c.verbs[v.Word] = v
	}
	if isTerminal(os.Stdin) && term.IsTerminal(stdout.fd()) {
		c.prompt()
	} else {
		c.script(os.Stdin)
	}
	return nil
}

// dial connects, to speak no newer protocol than this.
func (c *shellCmd) dial(ctx context.Context, newest int, patience time.Duration) (*client.Conn, error) {
	opts := c.options()
	opts.ConnectTimeout = patience
	return client.Dial(ctx, opts, newest)
}

// verbs are those that people may use.
func verbs() []session.Verb {
	return slices.DeleteFunc(session.Verbs(), func(v session.Verb) bool { return v.Nodes })
}
