package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/internal/clidoc"
	"github.com/nylen/lockd/pkg/server"
)

// completionCmd prints what makes a shell complete lockd's command line.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

func (*completionCmd) Help() string {
	return `Packages of lockd have installed them. Otherwise, for this shell, and in its start-up file for all:

	source <(lockd completion bash)
	source <(lockd completion zsh)
	lockd completion fish | source

In zsh that has to come after compinit.`
}

func (c *completionCmd) Run(k *kong.Kong) error {
	write := map[string]func(k *kong.Kong) error{
		"bash": func(k *kong.Kong) error { return clidoc.Bash(stdout, k) },
		"zsh":  func(k *kong.Kong) error { return clidoc.Zsh(stdout, k) },
		"fish": func(k *kong.Kong) error { return clidoc.Fish(stdout, k) },
	}
	return write[c.Shell](k)
}

// manCmd writes the manual pages. It is hidden: who makes packages needs it.
type manCmd struct {
	Dir filled `arg:"" complete:"dirs" help:"Where they go."`
}

func (c *manCmd) Run(k *kong.Kong) error {
	date := time.Now()
	if epoch := os.Getenv("SOURCE_DATE_EPOCH"); epoch != "" { // reproducible-builds.org
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return errors.New("SOURCE_DATE_EPOCH is no number of seconds: " + strconv.Quote(epoch))
		}
		date = time.Unix(seconds, 0)
	}
	pages := clidoc.Man(k, clidoc.Edition{
		Version: server.Version, Date: date, Daemon: "serve",
		More: "https://github.com/nylen/lockd has the documents: the protocol, what a lock guarantees, security, operation.",
	})
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(string(c.Dir), p.Name), p.Text, 0o644); err != nil {
			return cmp.Or(errors.Unwrap(err), err)
		}
	}
	return nil
}
