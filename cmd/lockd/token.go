package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/nylen/lockd/internal/auth"
	"github.com/nylen/lockd/internal/session"
)

// tokenCmd changes and shows the file that serve reads with --auth-file.
type tokenCmd struct {
	Add    tokenAddCmd    `cmd:"" help:"Make a token, and print it, once."`
	List   tokenListCmd   `cmd:"" help:"List who is let in, and how they are known."`
	Remove tokenRemoveCmd `cmd:"" help:"Let somebody in no more."`
}

const tokenHelp = `The file has a line for each who is let in, NAME ROLE[:PREFIX] HOW:

	deploy   lock:deploy/  sha256:64 HEXADECIMAL DIGITS
	grafana  read          cert
	backup   lock          uid:34

lock takes and releases locks and rates, and asks about those whose names it
knows; read looks at everything; admin may do everything, also end clients; node
is for the other nodes of a cluster, and may do as much. lock and read with a
PREFIX are for names that begin so. HOW is a token's hash, cert for a
client certificate of that name, or uid:N for a user's processes at a unix
socket. Who has the last two needs no token: write such lines by hand.

A name may have several lines with the same role: so tokens can be changed. The
server reads the file again when it changes, within some seconds.`

// authFile is the file.
type authFile struct {
	AuthFile filled `placeholder:"PATH" help:"The file, as given to lockd serve."`
}

// needed is for commands that can do nothing without it.
func (f authFile) needed() error {
	if f.AuthFile == "" {
		return errors.New("--auth-file is missing: which file is it?")
	}
	return nil
}

type tokenAddCmd struct {
	authFile
	Name string   `arg:"" help:"Whose token it is, one word. It stands in the log."`
	Role roleWord `required:"" env:"-" placeholder:"ROLE[:PREFIX]" help:"What it is for: lock, read, admin or node, or lock:PREFIX or read:PREFIX for names that begin so."`
}

func (*tokenAddCmd) Help() string {
	return `Makes a token of 256 random bits, prints it, and adds a line to the file, which
has no more than the token's hash. Nothing else goes to standard output:

	umask 077
	lockd token add ci --role lock:deploy/ --auth-file /etc/lockd/auth >ci.token

Without --auth-file it says which line to add.

` + tokenHelp + `

Exit codes:

	0  the token is printed
	1  the file cannot be changed, or has something wrong in it
	2  wrong usage`
}

// Validate is called by kong.
func (c *tokenAddCmd) Validate() error {
	if err := auth.CheckName(c.Name); err != nil {
		return fmt.Errorf("<name>: %w", err)
	}
	return nil
}

func (c *tokenAddCmd) Run() error {
	token := auth.NewToken()
	e := auth.Entry{Name: c.Name, Role: c.Role.role, Prefix: c.Role.prefix, Proof: auth.OfToken([]byte(token))}
	if c.AuthFile == "" {
		fmt.Fprintf(stderr, "lockd: the line for the server's --auth-file:\n%s\n", e)
	} else {
		if err := auth.Add(string(c.AuthFile), c.Name, c.Role.role, c.Role.prefix, token); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "lockd: %s has the role %s now, with this token, which is shown this once:\n", c.Name, auth.RoleWord(e.Role, e.Prefix))
	}
	fmt.Fprintln(stdout, token)
	return nil
}

// roleWord is ROLE[:PREFIX].
type roleWord struct {
	role   session.Role
	prefix string
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *roleWord) UnmarshalText(text []byte) (err error) {
	r.role, r.prefix, err = auth.ParseRole(string(text))
	return err
}

type tokenListCmd struct{ authFile }

func (*tokenListCmd) Help() string {
	return tokenHelp + `

Of a hash it shows the beginning, which token remove takes, too.

Exit codes:

	0  the list is printed
	1  the file cannot be read, or has something wrong in it
	2  wrong usage`
}

// Validate is called by kong.
func (c *tokenListCmd) Validate() error { return c.needed() }

func (c *tokenListCmd) Run() error {
	all, err := auth.List(string(c.AuthFile))
	if err != nil {
		return err
	}
	if len(all) == 0 {
		fmt.Fprintln(stderr, "lockd: nobody is let in")
		return nil
	}
	rows := [][]string{{"NAME", "ROLE", "HOW"}}
	for _, e := range all {
		rows = append(rows, []string{e.Name, auth.RoleWord(e.Role, e.Prefix), e.Proof.Short()})
	}
	writeRows(stdout, rows)
	return nil
}

type tokenRemoveCmd struct {
	authFile
	Name string `arg:"" help:"Who."`
	How  string `arg:"" optional:"" help:"Which line, by its HOW or the beginning of that, when there are several."`
	All  bool   `env:"-" help:"All lines of that name."`
}

func (*tokenRemoveCmd) Help() string {
	return `Takes lines out of the file. Who is connected with such a token gets
'0 Not Authenticated' from its next request on, and keeps what it holds until it
disconnects; lockd kick ends it at once.

Exit codes:

	0  they are gone
	1  there was no such line, or the file cannot be changed
	2  wrong usage`
}

// Validate is called by kong.
func (c *tokenRemoveCmd) Validate() error {
	if c.All && c.How != "" {
		return errors.New("--all is all lines: there is no HOW with it")
	}
	return c.needed()
}

func (c *tokenRemoveCmd) Run() error {
	var gone []auth.Entry
	err := auth.Remove(string(c.AuthFile), func(all []auth.Entry) ([]auth.Entry, error) {
		for _, e := range all {
			if e.Name == c.Name && strings.HasPrefix(e.Proof.String(), c.How) {
				gone = append(gone, e)
			}
		}
		switch {
		case len(gone) == 0 && c.How != "":
			return nil, fmt.Errorf("%s has no line of %s that begins so", c.AuthFile, c.Name)
		case len(gone) == 0:
			return nil, fmt.Errorf("%s has no line of %s", c.AuthFile, c.Name)
		case len(gone) > 1 && !c.All:
			var which []string
			for _, e := range gone {
				which = append(which, e.Proof.Short())
			}
			return nil, fmt.Errorf("%s has %d lines: say which, %s, or --all", c.Name, len(gone), strings.Join(which, " or "))
		}
		return gone, nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s", c.AuthFile)
	}
	if err != nil {
		return err
	}
	for _, e := range gone {
		fmt.Fprintf(stderr, "lockd: removed %s %s %s\n", e.Name, auth.RoleWord(e.Role, e.Prefix), e.Proof.Short())
	}
	return nil
}
