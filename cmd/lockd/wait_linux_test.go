package main_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestRunWaitsOnATerminal: in one line, which is kept up to date and goes away.
func TestRunWaitsOnATerminal(t *testing.T) {
	t.Parallel()
	addr := free(t)
	d := serveAt(t, addr)
	holder := func(t *testing.T, name string) *client {
		c := dial(t, "tcp", addr)
		c.ask("g "+name, "1 Lock Get Success: "+name)
		return c
	}
	run := "TERM=xterm " + binary + " run -s " + addr + " "
	t.Run("group", func(t *testing.T) {
		t.Run("says for whom", func(t *testing.T) {
			t.Parallel()
			c := holder(t, "held")
			term := openTerminal(t, "sh", "-c", run+"held -- echo hi")
			for range 2 {
				term.shows("\rlockd: waiting for \"held\", held for ")
				term.shows("s by " + c.LocalAddr().String() + "; you are next\x1b[K\r")
			}
			c.ask("r held", "1 Lock Release Success: held")
			term.shows("\r\x1b[Khi\r\n") // nothing is left of it
		})
		t.Run("within its columns", func(t *testing.T) {
			t.Parallel()
			c := holder(t, "narrow")
			c.ask("iam "+strings.Repeat("\u65e5", 60), "1 ok")
			term := openTerminal(t, "sh", "-c", "stty cols 60; "+run+"narrow -- true")
			term.shows("\rlockd: \"narrow\" held for ")
			term.shows("\x1b[K\r\r") // up to the next one
			c.ask("r narrow", "1 Lock Release Success: narrow")
			term.shows("\u65e5\u65e5\u2026\x1b[K\r")
		})
		t.Run("one that cannot be redrawn", func(t *testing.T) {
			t.Parallel()
			c := holder(t, "plain")
			term := openTerminal(t, "sh", "-c", "TERM=dumb "+binary+" run -s "+addr+" plain -- true")
			term.shows("lockd: waiting for \"plain\", held for ")
			term.shows("s by " + c.LocalAddr().String() + "; you are next\r\n")
		})
		t.Run("not in the background", func(t *testing.T) {
			t.Parallel()
			c := holder(t, "back")
			term := openTerminal(t, "bash", "--norc", "--noprofile", "-i")
			term.shows("prompt> ")
			fmt.Fprintf(term, "%sback -- echo h''i &\n", run)
			time.Sleep(1500 * time.Millisecond)
			io.WriteString(term, "echo ma''rk\n")
			if before := term.until("mark\r\n"); strings.Contains(before, "held for") {
				t.Errorf("the terminal shows %q", before)
			}
			io.WriteString(term, "fg\n")
			term.shows("held for ")
			c.ask("r back", "1 Lock Release Success: back")
			term.shows("\r\x1b[Khi\r\n")
		})
	})
	t.Run("a restart", func(t *testing.T) {
		holder(t, "lost")
		term := openTerminal(t, "sh", "-c", run+"lost -- echo hi")
		term.shows("you are next")
		d.cmd.Process.Kill()
		term.shows("\rlockd: server away for ")
		term.shows("1s: cannot reach " + addr + ": connection refused\x1b[K\r")
		serveAt(t, addr)
		term.shows("\r\x1b[Klockd: " + addr + " is back, after ")
		term.shows("s\r\nhi\r\n")
	})
}
