package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestRunOnATerminal(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	run := binary + " run -s " + d.addr("tcp") + " name -- "
	t.Run("reads it, and gives it back", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", run+`sh -c 'echo ready; read a; echo "<$a>"'; echo code $?; read b; echo "[$b]"`)
		term.shows("ready\r\n")
		io.WriteString(term, "one\n")
		term.shows("<one>\r\n")
		term.shows("code 0\r\n")
		io.WriteString(term, "two\n")
		term.shows("[two]\r\n")
	})
	t.Run("reads it late, with the output elsewhere", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", binary+" run -s "+d.addr("tcp")+` other -- sh -c 'echo ready; read a; echo "<$a>"' | cat; read b; echo "[$b]"`)
		term.shows("ready\r\n")
		io.WriteString(term, "one\n")
		term.shows("<one>\r\n")
		io.WriteString(term, "two\n")
		term.shows("[two]\r\n")
	})
	for name, script := range map[string]string{
		"Ctrl-C while waiting": "RUN; echo NEXT",
		"TERM while waiting":   "exec RUN",
		"HUP while waiting":    "exec RUN",
		"QUIT while waiting":   "exec RUN",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, "tcp", d.addr("tcp"))
			lock := strings.ReplaceAll(name, " ", "_")
			c.ask("g "+lock, "1 Lock Get Success: "+lock)
			run := binary + " run -s " + d.addr("tcp") + " " + lock + " -- echo hi"
			term := openTerminalWith(t, []string{"TERM=xterm"}, "sh", "-c", strings.ReplaceAll(script, "RUN", run))
			term.shows("\x1b[K\r")
			want := syscall.WaitStatus(map[string]syscall.Signal{
				"Ctrl-C": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP,
			}[strings.Fields(name)[0]])
			switch want.Signal() {
			case syscall.SIGINT:
				io.WriteString(term, "\x03")
			case -1: // none
				term.cmd.Process.Signal(syscall.SIGQUIT)
				want = 131 << 8
			default:
				term.cmd.Process.Signal(want.Signal())
			}
			if rest := term.ends(); !strings.HasSuffix(rest, "\r\x1b[K") { // nothing is left of its line
				t.Errorf("the terminal shows %q at last", rest)
			}
			if status := term.cmd.ProcessState.Sys().(syscall.WaitStatus); status != want {
				t.Errorf("it ended: %v", term.cmd.ProcessState)
			}
		})
	}
	t.Run("waits on in the background", func(t *testing.T) {
		t.Parallel()
		c := dial(t, "tcp", d.addr("tcp"))
		c.ask("g back", "1 Lock Get Success: back")
		term := openTerminal(t, "bash", "--norc", "--noprofile", "-i")
		term.shows("prompt> ")
		fmt.Fprintln(term, "TERM=xterm "+binary+" run -s "+d.addr("tcp")+" back -- echo h''i")
		term.shows("; you are next\x1b[K\r")
		io.WriteString(term, "\x1a")
		term.shows("prompt> ")
		fmt.Fprintln(term, "bg")
		term.shows("&\r\n")
		term.shows("prompt> ")
		c.ask("r back", "1 Lock Release Success: back")
		if got := term.until("hi\r\n"); strings.Contains(got, "\x1b[K") { // the line is the shell's now
			t.Errorf("the terminal shows %q", got)
		}
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", `trap : INT; `+binary+" run -s "+d.addr("tcp")+` third -- sh -c 'echo ready; exec sleep 1000'; echo code $?`)
		term.shows("ready\r\n")
		io.WriteString(term, "\x03")
		term.shows("code 130\r\n")
	})
	t.Run("Ctrl-Z and fg", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "bash", "--norc", "--noprofile", "-i")
		for _, script := range []string{
			`sh -c 'echo p""id $$ rea""dy; read a; echo "<$a>"'`,
			`sh -c 'echo p""id $$ rea""dy; read a; echo "<$a>"' | cat`,
		} {
			term.shows("prompt> ")
			fmt.Fprintf(term, "%s run -s %s fourth -- %s\n", binary, d.addr("tcp"), script)
			term.shows("pid ")
			pid, err := strconv.Atoi(strings.TrimSuffix(term.until(" ready\r\n"), " ready\r\n"))
			if err != nil {
				t.Fatal(err)
			}
			// What is typed when it has the terminal and is not continued yet is lost,
			// as in every shell: to be continued undoes it.
			await(t, func() bool { return term.foreground() == pid && state(pid) == 'S' })
			io.WriteString(term, "\x1a")
			term.shows("Stopped")
			term.shows("prompt> ")
			dial(t, "tcp", d.addr("tcp")).ask("i fourth", "1 Lock Is Locked: fourth")
			io.WriteString(term, "echo in''side\n")
			term.shows("inside\r\n")
			term.shows("prompt> ")
			io.WriteString(term, "fg\n")
			term.shows("\r\n")
			io.WriteString(term, "one\n")
			term.shows("<one>\r\n")
			term.shows("prompt> ")
			io.WriteString(term, "echo ba''ck $?\n")
			term.shows("back 0\r\n")
		}
	})
}

// waiting is a command that says when it is there, and waits to be ended. The
// terminal echoes what is typed, but not so.
const waiting = `sh -c 'echo rea""dy; exec sleep 1000'`

// TestRunInterrupted: Ctrl-C ends the command and what would come after it, as
// without lockd run, and the lock is free.
func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	scripts := map[string]string{
		"plain":        "RUN WAITING; echo NEXT",
		"and":          "RUN WAITING || echo NEXT",
		"loop":         "while :; do RUN WAITING; done; echo NEXT",
		"subshell":     "(RUN WAITING; echo NEXT); echo NEXT",
		"no input":     "RUN WAITING </dev/null; echo NEXT",
		"prompt":       `RUN sh -c 'echo rea""dy; read x </dev/tty' </dev/null; echo NEXT`,
		"output":       `RUN sh -c 'echo rea""dy >/dev/tty; exec sleep 1000' >/dev/null; echo NEXT`,
		"pipe":         "RUN WAITING | cat; echo NEXT",
		"nested":       "RUN RUN-inner WAITING; echo NEXT",
		"nested shell": "RUN SHELL -c \"RUN-inner WAITING; echo NEXT\"; echo NEXT",
		"last":         "exec RUN WAITING",
	}
	for _, shell := range []string{"bash", "dash"} {
		if _, err := exec.LookPath(shell); err != nil {
			t.Logf("no %s here", shell)
			continue
		}
		for name, script := range scripts {
			t.Run(shell+", "+name, func(t *testing.T) {
				t.Parallel()
				lock := strings.ReplaceAll(t.Name(), " ", "_")
				run := binary + " run -s " + d.addr("tcp") + " " + lock
				script := strings.NewReplacer("RUN-inner", run+"-inner --", "RUN", run+" --", "WAITING", waiting, "SHELL", shell).Replace(script)
				term := openTerminal(t, shell, "-c", script)
				term.shows("ready\r\n")
				io.WriteString(term, "\x03")
				if rest := term.ends(); rest != "^C" {
					t.Errorf("the terminal shows %q after Ctrl-C", rest)
				}
				if status := term.cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
					t.Errorf("the shell ended: %v", term.cmd.ProcessState)
				}
				for _, lock := range []string{lock, lock + "-inner"} {
					dial(t, "tcp", d.addr("tcp")).ask("i "+lock, "0 Lock Not Locked: "+lock)
				}
			})
		}
	}
	t.Run("a command that goes on", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", `trap : INT; `+binary+" run -s "+d.addr("tcp")+
			` deaf -- sh -c 'trap "exit 3" INT; echo ready; while :; do sleep 0.05; done'; echo code $?`)
		term.shows("ready\r\n")
		io.WriteString(term, "\x03")
		term.shows("code 3\r\n")
	})
}

// TestRunHasTheTerminal: whatever its input is, a command has the terminal when
// it asks for it, and the shell has it again afterwards.
func TestRunHasTheTerminal(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	run := binary + " run -s " + d.addr("tcp") + " "
	const again = `; read b; echo "[$b]"`
	t.Run("prompt", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", run+`prompt -- sh -c 'echo ready; read a </dev/tty; echo "<$a>"' </dev/null`+again)
		term.shows("ready\r\n")
		io.WriteString(term, "one\n")
		term.shows("<one>\r\n")
		io.WriteString(term, "two\n")
		term.shows("[two]\r\n")
	})
	t.Run("prompts in a loop over lines", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", `printf 'a\nb\n' | while read name; do `+run+
			`$name -- sh -c 'echo ready $LOCKD_NAME; read a </dev/tty; echo "<$a>"'; done; echo end`)
		for _, name := range []string{"a", "b"} {
			term.shows("ready " + name + "\r\n")
			io.WriteString(term, "one\n")
			term.shows("<one>\r\n")
		}
		term.shows("end\r\n")
	})
	t.Run("tostop", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", "stty tostop; "+run+`tostop -- sh -c 'echo ready; echo end' </dev/null`+again)
		term.shows("ready\r\nend\r\n")
		io.WriteString(term, "two\n")
		term.shows("[two]\r\n")
	})
	t.Run("that does not start", func(t *testing.T) {
		t.Parallel()
		garbage := short(t) + "/garbage"
		if err := os.WriteFile(garbage, []byte("\x00\x01"), 0o700); err != nil {
			t.Fatal(err)
		}
		term := openTerminal(t, "sh", "-c", run+"garbage -- "+garbage+again)
		term.shows("exec format error\r\n")
		io.WriteString(term, "two\n")
		term.shows("[two]\r\n")
	})
	t.Run("its modes", func(t *testing.T) {
		t.Parallel()
		const modes = `; stty -a | grep -o -- '-*echo ' | sed 's/^/modes: /'`
		term := openTerminal(t, "sh", "-c", run+`modes -- sh -c 'stty -echo; kill -KILL $$'`+modes+"; "+run+`modes -- stty -echo`+modes)
		term.shows("modes: echo \r\n") // as a shell resets it after a process that was killed
		term.shows("modes: -echo \r\n")
	})
	t.Run("Ctrl-Z without a shell to continue", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "sh", "-c", "exec "+run+`leader -- sh -c 'echo ready; read a; echo "<$a>"'`)
		term.shows("ready\r\n")
		io.WriteString(term, "\x1a")
		term.shows("^Z")
		io.WriteString(term, "one\n")
		term.shows("<one>\r\n")
	})
	t.Run("in the background for good", func(t *testing.T) {
		t.Parallel()
		term := openTerminal(t, "bash", "--norc", "--noprofile", "-i")
		term.shows("prompt> ")
		// No job of the shell's, so nobody would continue it.
		fmt.Fprintln(term, "("+run+`background -- sh -c 'echo p""id $$ $PPID e""nd; read a </dev/tty' &)`)
		term.shows("pid ")
		var command, lockd int
		text := term.until(" end\r\n")
		if n, _ := fmt.Sscan(text, &command, &lockd); n != 2 {
			t.Fatalf("the command says %q", text)
		}
		term.shows("lockd: the command is stopped: it asks for the terminal")
		if got := state(lockd); got == 'T' || state(command) != 'T' {
			t.Errorf("lockd is in state %c, the command in %c", got, state(command))
		}
		syscall.Kill(lockd, syscall.SIGTERM)
		dial(t, "tcp", d.addr("tcp")).ask("gw 30000 background", "1 Lock Get Success: background")
		await(t, func() bool { return state(command) == 0 && state(lockd) == 0 })
	})
}
