// Command lockd is a lock server for a fleet of machines.
//
// `lockd --help` tells how to use it, docs/protocol.md what it speaks.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// cli is the command line. Every flag of serve can also be set by the
// environment variable that its help names.
type cli struct {
	Serve   serveCmd   `cmd:"" default:"withargs" help:"Serve locks. This is what lockd does without a command."`
	Bench   benchCmd   `cmd:"" help:"Put load on a lockd, Redis or memcached server and measure it."`
	Run     runCmd     `cmd:"" help:"Run a command while holding a lock."`
	Shell   shellCmd   `cmd:"" help:"Type requests at a prompt, or send those of a script."`
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

Exit code 2 means a wrong command line, and 74 that something could not be
printed, as on a full disk. The help of a command has its own codes.

Try it, with lockd running in another terminal:

	lockd shell`

type versionCmd struct{}

func (versionCmd) Run() error {
	fmt.Fprintf(stdout, "lockd %s (%s)\n", server.Version, build())
	return nil
}

// build tells what the program was made with and, if that is known, of.
func build() string {
	settings := make(map[string]string)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	text := runtime.Version()
	if revision := settings["vcs.revision"]; revision != "" {
		text += ", revision " + revision
	}
	if settings["vcs.modified"] == "true" {
		text += ", modified"
	}
	return text
}

func main() {
	forgetEmpty()
	args := os.Args[1:]
	if slices.Equal(args, []string{"--version"}) {
		args = []string{"version"}
	}
	if err := checkGlockdFlags(args); err != nil {
		fail(2, err.Error()+" (see lockd --help)")
	}
	var c cli
	parser := kong.Must(&c,
		kong.Name("lockd"),
		kong.Description(description),
		kong.DefaultEnvars("LOCKD"),
		kong.Help(help),
		kong.Exit(exit),
	)
	ctx, err := parser.Parse(args)
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
			help = "lockd " + command.Name + " --help"
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
