// Command client takes a lock, works for a while and gives it back. Start it
// twice to see the second one stay out, and stop the server while it works to
// see it notice.
//
//	go run ./examples/client tcp://127.0.0.1:9999 "nightly report" 10s
//
// A server within TLS that asks for a token is reached so:
//
//	export LOCKD_TLS_CA=ca.pem LOCKD_TOKEN_FILE=token
//	go run ./examples/client tls://locks.example:9990 "nightly report" 10s
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

const usage = `usage: client [TARGET [LOCK [TIME]]]

Takes a lock, works for a while and gives it back.

  TARGET  the server: tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH,
          ws://HOST:PORT/PATH or wss://HOST:PORT/PATH
          (default $LOCKD_SERVER, or else ` + client.DefaultTarget + `)
  LOCK    the name of the lock (default example)
  TIME    how long to work, such as 10s (default 3s)

LOCKD_TOKEN_FILE, LOCKD_TLS_CA, LOCKD_CLIENT_CERT, LOCKD_CLIENT_KEY and
LOCKD_TLS_SERVER_NAME mean what they do to lockd's own commands.
`

func main() {
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	parse(flags, os.Args[1:], usage)
	if flags.NArg() > 3 {
		fmt.Fprintln(os.Stderr, "client: too many arguments (see client --help)")
		os.Exit(2)
	}
	if err := run(flags.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "client:", err)
		os.Exit(1)
	}
}

// parse reads the command line. Help that was asked for goes to stdout.
func parse(flags *flag.FlagSet, args []string, usage string) {
	flags.SetOutput(io.Discard)
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		flags.SetOutput(os.Stdout)
		flags.PrintDefaults()
		os.Exit(0)
	case err != nil:
		fmt.Fprintf(os.Stderr, "%s: %v (see %[1]s --help)\n", flags.Name(), err)
		os.Exit(2)
	}
}

func run(args []string) error {
	target, lock, length := "", "example", 3*time.Second
	switch len(args) {
	case 3:
		var err error
		if length, err = time.ParseDuration(args[2]); err != nil {
			return err
		}
		fallthrough
	case 2:
		lock = args[1]
		fallthrough
	case 1:
		target = args[0]
	case 0:
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	// Where the server is, the CA that it is trusted by, and the token: the caller
	// says so, and no secret is in an argument or in this program.
	opts, err := client.FromEnv(target)
	if err != nil {
		return err
	}
	opts.Name = client.ProcessName()
	c, err := client.New(opts)
	if err != nil {
		return err
	}
	defer c.Close() // frees whatever is still held

	me, err := c.Name(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("connected to %s as %s\n", cmp.Or(opts.Target, client.DefaultTarget), me.Addr)

	switch err := c.Get(ctx, lock); {
	case errors.Is(err, client.ErrNotAcquired):
		holder, err := holderOf(ctx, c, lock)
		switch {
		case err != nil:
			fmt.Printf("%q is locked, and who holds it cannot be told: %v\n", lock, err)
		case holder == "":
			fmt.Printf("%q was locked, and is free again by now\n", lock)
		default:
			fmt.Printf("%q is locked by %s\n", lock, holder)
		}
		return nil
	case err != nil:
		return err
	}
	fmt.Printf("got %q, working for %v\n", lock, length)

	select {
	case <-time.After(length): // the work
	case <-ctx.Done():
		fmt.Println("interrupted")
		return nil
	case <-c.Lost():
		// Someone else may hold the lock from now on, so the work must end.
		return fmt.Errorf("stopped working: %w", c.Err())
	}

	if err := c.Release(ctx, lock); err != nil {
		return err
	}
	fmt.Printf("released %q\n", lock)
	return nil
}

// holderOf says who holds the lock and for how long, or nothing if nobody does.
func holderOf(ctx context.Context, c *client.Client, lock string) (string, error) {
	entries, err := c.Look(ctx, lock)
	if errors.Is(err, client.ErrNoLook) { // a server that tells no more than its name
		holder, _, err := c.Dump(ctx, lock)
		return holder, err
	}
	for _, e := range entries {
		if e.Kind == client.KindExclusive && e.State != client.StateWaits {
			return fmt.Sprintf("%s, %s, for %v", e.Registered, e.Addr, e.Since), nil
		}
	}
	return "", err
}
