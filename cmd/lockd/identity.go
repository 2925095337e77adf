package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
	"github.com/nylen/lockd/pkg/client"
)

// Who holds a lock, in words for others.

// The longest parts of the name under which lockd run registers, in bytes. In
// all they are less than a server's line, and than what pkg/client takes.
const (
	longestUser  = 32
	longestHost  = 63
	longestLabel = 100
)

// label is what --name says.
type label string

// Validate is called by kong.
func (l *label) Validate() error {
	switch text, ok := wire.FoldName(string(*l)); {
	case !ok:
		return errors.New("must not contain a line break")
	case text == "":
		return errEmpty
	case len(text) > longestLabel:
		return fmt.Errorf("must be at most %d bytes long, not %d", longestLabel, len(text))
	}
	return nil
}

// registered is the name of this process for those who ask who holds a lock:
// USER@HOST PID and what it does. No arguments of the command are in it, since
// there are secrets among arguments, and everybody can read this.
func registered(what string) string {
	return fmt.Sprintf("%s@%s %d %s", wire.ShortName(userName(), longestUser), wire.ShortName(hostName(), longestHost),
		os.Getpid(), wire.ShortName(what, longestLabel))
}

func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // Windows has DOMAIN\USER
	}
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	return fmt.Sprint(os.Getuid())
}

func hostName() string {
	host, err := os.Hostname()
	if err != nil {
		return "?"
	}
	host, _, _ = strings.Cut(host, ".")
	return host
}

// program is the name of a command's file.
func program(command string) string { return strings.TrimSuffix(filepath.Base(command), ".exe") }

// whoIs spells for people who an entry is about. A connection's number of a
// session is in the address, and so it need not be in the name, too. Who has
// registered no name may at least be known by the process.
func whoIs(e client.Entry) string {
	if e.Registered != e.Addr {
		name := e.Registered
		if i := strings.LastIndexByte(e.Addr, '#'); i >= 0 {
			name = strings.TrimSuffix(name, e.Addr[i:])
		}
		return plain(name)
	}
	return processOf(e)
}

// processOf spells what the system says of a client's process, if it does.
func processOf(e client.Entry) string {
	p, ok := e.Process()
	if !ok {
		return ""
	}
	return processText(p)
}

func processText(p client.Process) string {
	text := fmt.Sprintf("uid %d", p.UID)
	if p.PID > 0 {
		text = fmt.Sprintf("pid %d %s", p.PID, text)
	}
	if p.Program != "" {
		text = plain(p.Program) + " " + text
	}
	return text
}

// ago spells for people how long something has lasted.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Hour:
		return d.Truncate(time.Second).String()
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
