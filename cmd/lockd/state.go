package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/state"
)

// stateCmd makes and shows the file that serve has with --state.
type stateCmd struct {
	New  stateNewCmd  `cmd:"" help:"Make the file for a first start, which need not wait for anybody then."`
	Show stateShowCmd `cmd:"" help:"Show what is in it."`
}

type stateNewCmd struct {
	File string `arg:"" placeholder:"FILE" help:"The file. There must be none yet."`
}

func (*stateNewCmd) Help() string {
	return `A server that finds no state file waits, before it gives anybody anything new,
for as long as clients of an earlier one may believe in what they held:
--dead-peer-timeout or --max-keep, whichever is longer. Where there was no
earlier one, this saves that time:

	lockd state new /var/lib/lockd/state
	lockd --state /var/lib/lockd/state

Make it as the server's user, whose own it has to be. Don't make one in the place
of a file that was lost: then that time is needed.

Exit codes:

	0  the file is made
	1  it cannot be made, or there is one already
	2  wrong usage`
}

func (c *stateNewCmd) Run() error { return state.New(c.File) }

type stateShowCmd struct {
	File string `arg:"" placeholder:"FILE" help:"The file. A server may have it."`
}

func (*stateShowCmd) Help() string {
	return `Shows on which start of which machine the file was written last, how many clients
are kept and for how long, and below which number no fencing token is given any
more. There are no locks in it: those who hold them say so after a restart.

Exit codes:

	0  it is shown
	1  it cannot be read, is damaged, or none of lockd's
	2  wrong usage`
}

func (c *stateShowCmd) Run() error {
	s, err := state.Show(c.File)
	if err != nil {
		return err
	}
	boot := s.Boot + ", another one than now"
	switch {
	case s.Missing:
		boot = "none yet: the server found no file when it started, and has not waited to the end"
	case s.Here:
		boot = s.Boot + ", which goes on"
	}
	clients := "none"
	if n := len(s.Keys); n > 0 {
		clients = fmt.Sprintf("%d, for %v", n, time.Duration(s.Keys[0])*time.Millisecond)
		if last := s.Keys[n-1]; last != s.Keys[0] {
			clients += fmt.Sprintf(" to %v", time.Duration(last)*time.Millisecond)
		}
	}
	rows := [][]string{
		{"start of the machine", boot},
		{"kept clients", clients},
		{"tokens", "below " + strconv.FormatUint(s.Floor, 10) + " (" + time.UnixMicro(int64(s.Floor)).Format(time.DateTime) + ")"},
	}
	if s.Torn > 0 {
		rows = append(rows, []string{"unfinished", fmt.Sprintf("%d bytes at the end, which are dropped at the next start", s.Torn)})
	}
	writeRows(stdout, rows)
	return nil
}
