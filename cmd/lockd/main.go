// Command lockd is a lock server for a fleet of machines.
//
// `lockd --help` tells how to use it, docs/protocol.md what it speaks.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// cli is the command line. Every flag of serve can also be set by the
// environment variable that its help names.
type cli struct {
	Serve   serveCmd   `cmd:"" default:"withargs" help:"Serve locks. This is what lockd does without a command."`
	Bench   benchCmd   `cmd:"" help:"Put load on a lockd, Redis or memcached server and measure it."`
	Run     runCmd     `cmd:"" help:"Run a command while holding a lock."`
	Inspect inspectCmd `cmd:"" help:"Ask whether a lock is held."`
	Dump    dumpCmd    `cmd:"" help:"List the locks that are held, and by whom."`
	Who     whoCmd     `cmd:"" help:"List the clients that registered a name."`
	Stats   statsCmd   `cmd:"" help:"Print the server's counters."`
	Ping    pingCmd    `cmd:"" help:"Ask whether the server is there."`
	Version versionCmd `cmd:"" help:"Print the version and exit."`
}

const description = `A lock server for a fleet of machines.

A client holds a lock by staying connected, and the lock is gone with the
connection, so stale locks cannot exist. Shared locks are counted, so a fleet
limits its concurrency with them.

Try it:  lockd &  printf 'g foo\nq\n' | nc -N 127.0.0.1 9999`

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Println("lockd", server.Version)
	return nil
}

func main() {
	var c cli
	parser := kong.Must(&c,
		kong.Name("lockd"),
		kong.Description(description),
		kong.DefaultEnvars("LOCKD"),
		kong.Help(help),
	)
	ctx, err := parser.Parse(os.Args[1:])
	if err != nil {
		fail(2, err.Error()+" (see lockd --help)")
	}
	if err := ctx.Run(); err != nil {
		fail(1, err.Error())
	}
}

// help prints a command's help. Without a command that is the overview and,
// since lockd alone serves, the help of serve.
func help(opts kong.HelpOptions, ctx *kong.Context) error {
	err := kong.DefaultHelpPrinter(opts, ctx)
	if err != nil || ctx.Selected() != nil {
		return err
	}
	serve, err := kong.Trace(ctx.Kong, []string{"serve"})
	if err != nil {
		return err
	}
	fmt.Fprintln(ctx.Stdout)
	return kong.DefaultHelpPrinter(opts, serve)
}

// fail prints one line and exits.
func fail(code int, text string) {
	fmt.Fprintln(os.Stderr, "lockd:", text)
	os.Exit(code)
}
