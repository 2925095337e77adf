package main_test

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestKickAsks: on a terminal, and tells what will be lost.
func TestKickAsks(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	c := dial(t, "tcp", d.addr("tcp"))
	me := c.LocalAddr().String()
	c.ask("iam \x1b[2Jme", "1 ok")
	c.ask("g a", "1 Lock Get Success: a")
	c.ask("sg b", "1 Shared Lock Get Success: b")
	idle := dial(t, "tcp", d.addr("tcp"))
	idle.ask("g idle", "1 Lock Get Success: idle")
	idle.ask("r idle", "1 Lock Release Success: idle")

	kick := binary + " kick -s " + d.addr("tcp") + " "
	for _, no := range []string{"n\n", "\n", "no\n", "\x04", "yesterday\n"} {
		term := openTerminal(t, "sh", "-c", kick+me+"; echo code $?")
		term.shows("This will be lost:\r\n")
		term.shows("a     exclusive  held   ")
		term.shows(me + `  "\x1b[2Jme"` + "\r\n")
		term.shows("b     shared     held   ")
		term.shows("End " + me + "? [y/N] ")
		io.WriteString(term, no)
		term.shows("code 1\r\n")
		c.ask("i a", "1 Lock Is Locked: a")
	}
	for addr, client := range map[string]*client{me: c, idle.LocalAddr().String(): idle} {
		term := openTerminal(t, "sh", "-c", kick+addr+"; echo code $?")
		if client == idle {
			term.shows("Holds nothing and waits for nothing.\r\n")
		}
		term.shows("? [y/N] ")
		io.WriteString(term, "y\n")
		term.shows("kicked " + addr + "\r\n")
		term.shows("code 0\r\n")
		client.ended()
	}
	// Redirecting the question's answers does not make it go away.
	code, _, stderr := run("kick", "-s", d.addr("tcp"), me)
	if code != 2 || !strings.Contains(stderr, "--yes") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

// TestDumpWatchOnATerminal: a list takes the place of the last one.
func TestDumpWatchOnATerminal(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g first", "1 Lock Get Success: first")
	term := openTerminal(t, "sh", "-c", "trap : INT; TERM=xterm "+binary+" dump -s "+d.addr("tcp")+" --watch --every 0.1; echo code $?")
	term.shows("\x1b[H" + d.addr("tcp"))
	term.shows("every 100ms, ends with Ctrl-C\x1b[K\r\nNAME   KIND       SINCE  ADDR             HOLDER\x1b[K\r\nfirst  exclusive  ")
	term.shows("\x1b[J")
	c.ask("g second", "1 Lock Get Success: second")
	term.shows("second  exclusive  ")
	io.WriteString(term, "\x03")
	term.shows("code 0\r\n")
}

// TestOperator: an operator with a shell finds out who holds a lock, since when
// and who waits, and ends the holder. Each of the four commands is taught by the
// one before: that is how README.md tells it.
func TestOperator(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	holder := begin(t, d, "deploy", "--", "sh", "-c", "echo ready; "+forever)
	holder.says("ready")
	next := begin(t, d, "deploy", "--", "sh", "-c", untilInput)
	queued(t, d.addr("tcp"), "deploy", 1)

	teaches := func(text string, lessons ...string) {
		t.Helper()
		for _, lesson := range lessons {
			if !strings.Contains(text, lesson) {
				t.Errorf("nothing teaches %q in %s", lesson, text)
			}
		}
	}
	_, overview, _ := run("--help") // 1
	teaches(overview, "dump [<name> ...]", "inspect <name>", "kick <addr>", "by whom", "who waits for it", "End a client")
	_, help, _ := run("dump", "--help")
	teaches(help, "lockd inspect NAME", "lockd kick ADDR")
	_, help, _ = run("inspect", "--help")
	teaches(help, "lockd kick ADDR")

	list := prints(t, d.addr("tcp"), 0, "dump") // 2
	row := strings.Fields(strings.Split(list, "\n")[1])
	if row[0] != "deploy" || row[1] != "exclusive" {
		t.Fatalf("dump: %q", list)
	}
	lines := strings.Split(unalign(prints(t, d.addr("tcp"), 0, "inspect", row[0])), "\n") // 3
	pattern := regexp.MustCompile(`^exclusive held \d+s (127\.0\.0\.1:\d+#\d+) \S+@\S+ (\d+) sh$`)
	held := pattern.FindStringSubmatch(lines[4])
	if held == nil || held[1] != row[3] || held[2] != strconv.Itoa(holder.cmd.Process.Pid) {
		t.Fatalf("inspect: %q", lines)
	}
	if want := fmt.Sprintf(" %d sh", next.cmd.Process.Pid); !strings.HasPrefix(lines[5], "exclusive waits 1 ") || !strings.HasSuffix(lines[5], want) {
		t.Fatalf("inspect: %q", lines)
	}
	term := openTerminal(t, binary, "kick", "-s", d.addr("tcp"), held[1]) // 4
	term.shows("deploy  exclusive  held ")
	term.shows("? [y/N] ")
	io.WriteString(term, "y\n")
	term.shows("kicked " + held[1] + "\r\n")

	holder.ends(128 + 15)
	holder.complains(`lost the lock "deploy" (the server closed the connection)`)
	next.says("ready")
}
