// Command lockd is a lock server for a fleet of machines.
//
// `lockd --help` tells how to use it, docs/protocol.md what it speaks.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// cli is the command line. Every flag of serve can also be set by the
// environment variable that its help names.
type cli struct {
	Serve      serveCmd      `cmd:"" default:"withargs" help:"Serve locks. This is what lockd does without a command."`
	Proxy      proxyCmd      `cmd:"" help:"Serve this machine's clients, and ask another lockd for the locks: they survive its restarts."`
	Bench      benchCmd      `cmd:"" help:"Put load on a lockd, Redis or memcached server and measure it."`
	Run        runCmd        `cmd:"" help:"Run a command while holding a lock."`
	Shell      shellCmd      `cmd:"" help:"Type requests at a prompt, or send those of a script."`
	Inspect    inspectCmd    `cmd:"" help:"Ask whether a lock is held, by whom, and who waits for it."`
	Dump       dumpCmd       `cmd:"" help:"List the locks that are held, and by whom."`
	Losses     lossesCmd     `cmd:"" help:"Show what clients have lost, and why."`
	Kick       kickCmd       `cmd:"" help:"End a client, so that what it holds is free."`
	Drop       dropCmd       `cmd:"" help:"Drop a rate, so that all its units are open."`
	Who        whoCmd        `cmd:"" help:"List the clients that registered a name."`
	Stats      statsCmd      `cmd:"" help:"Print the server's counters."`
	Top        topCmd        `cmd:"" help:"Watch a server in a terminal: locks, clients, losses, numbers."`
	Ping       pingCmd       `cmd:"" help:"Ask whether the server is there."`
	State      stateCmd      `cmd:"" help:"Make the file that serve keeps its state in, or show one."`
	Cluster    clusterCmd    `cmd:"" help:"Make a cluster of servers, and see to it."`
	Token      tokenCmd      `cmd:"" help:"Make tokens, and list and remove who is let in."`
	Cert       certCmd       `cmd:"" help:"Make certificates to try TLS with."`
	Completion completionCmd `cmd:"" help:"Print completions for bash, zsh or fish."`
	Man        manCmd        `cmd:"" hidden:"" help:"Write the manual pages."`
	Help       helpCmd       `cmd:"" help:"Print this, or the help of a command."`
	Version    versionCmd    `cmd:"" help:"Print the version and exit."`
}

const description = `A lock server for a fleet of machines.

A client holds a lock by staying connected, and the lock is gone with the
connection, so stale locks cannot exist. Shared locks are counted, so a fleet
limits its concurrency with them.

Exit code 2 means a wrong command line, and 74 that something could not be
printed, as on a full disk. The help of a command has its own codes.

A TIME is 30s, 5m, 1h30m, 100ms or a number of seconds, 30 or 0.5.

Try it, with lockd running in another terminal:

	lockd shell`

// helpCmd is another spelling of --help, see spelled.
type helpCmd struct {
	Command string `arg:"" optional:"" complete:"commands" help:"The command."`
}

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Fprintf(stdout, "lockd %s (%s, revision %s)\n", server.Version, runtime.Version(), cmp.Or(server.Revision(), "unknown"))
	return nil
}

func main() {
	forgetEmpty()
	args := spelled(os.Args[1:])
	if err := checkGlockdFlags(args); err != nil {
		fail(2, err.Error()+" (see lockd --help)")
	}
	var c cli
	ctx, err := parser(&c).Parse(args)
	if wrong := new(kong.ParseError); errors.As(err, &wrong) {
		misuse(args, wrong.Context, err)
	} else if err != nil {
		fail(2, err.Error())
	}
	if err := ctx.Run(); errors.As(err, new(usageError)) {
		misuse(args, ctx, err)
	} else if err != nil {
		fail(1, err.Error())
	}
	exit(0)
}

func parser(c *cli) *kong.Kong {
	return kong.Must(c, append(numeric(),
		kong.Name("lockd"),
		kong.Description(description),
		kong.DefaultEnvars("LOCKD"),
		kong.Help(help),
		kong.Exit(exit),
	)...)
}

// spelled returns the arguments with what has two spellings in the one that
// kong knows.
func spelled(args []string) []string {
	switch {
	case slices.Equal(args, []string{"--version"}):
		return []string{"version"}
	case slices.Equal(args, []string{"help"}), len(args) == 2 && args[0] == "help" && !strings.HasPrefix(args[1], "-"):
		return append(args[1:], "--help")
	}
	return args
}

// forgetEmpty unsets our environment variables that are empty, which is how
// scripts and service files write that they are not set.
func forgetEmpty() {
	for _, pair := range os.Environ() {
		if name, empty := strings.CutSuffix(pair, "="); empty && strings.HasPrefix(name, "LOCKD_") {
			os.Unsetenv(name)
		}
	}
}

// usageError is a wrong command line.
type usageError struct{ error }

// misuse says what is wrong with the command line, and exits.
func misuse(args []string, ctx *kong.Context, err error) {
	text := err.Error()
	if len(args) > 0 { // kong takes an unknown command for an argument of serve
		if rest, ok := strings.CutPrefix(text, "unexpected argument "+args[0]); ok {
			text = "unknown command " + args[0] + rest
		}
	}
	help := "lockd --help"
	if command := ctx.Selected(); command != nil {
		text = strings.TrimPrefix(text, command.Path()+": ")
		if slices.Contains(args, command.Name) {
			help = strings.TrimSuffix(command.FullPath(), " ") + " --help"
		}
	}
	fail(2, text+" (see "+help+")")
}

// help prints a command's help. Without a command that is the overview and,
// since lockd alone serves, the help of serve.
func help(opts kong.HelpOptions, ctx *kong.Context) error {
	// To the file itself, which kong asks how wide the terminal is.
	stdout.keep(kong.DefaultHelpPrinter(opts, ctx))
	if ctx.Selected() != nil {
		return nil
	}
	serve, err := kong.Trace(ctx.Kong, []string{"serve"})
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout)
	stdout.keep(kong.DefaultHelpPrinter(opts, serve))
	return nil
}
