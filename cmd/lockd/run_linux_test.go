package main_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// state returns the letter of /proc, 0 for a process that is gone.
func state(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(stat, ')')
	if err != nil || i < 0 || i+2 >= len(stat) || stat[i+2] == 'Z' {
		return 0
	}
	return stat[i+2]
}

func TestRunKilled(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--", "sh", "-c", `trap "" TERM; echo $$; exec sleep 1000`)
	pid := r.number()
	r.cmd.Process.Kill()
	dial(t, "tcp", d.addr("tcp")).ask("gw 30000 name", "1 Lock Get Success: name")
	await(t, func() bool { return state(pid) == 0 })
}

// TestRunStoppedWhileAsking: the reply that has come while lockd was stopped is
// read before it counts as late.
func TestRunStoppedWhileAsking(t *testing.T) {
	t.Parallel()
	runner := make(chan *os.Process, 1)
	var rounds atomic.Int32
	addr := script(t, modern(func(request string) string {
		switch {
		case strings.HasSuffix(request, " g name"):
			return "1 9 Lock Get Success: name\n"
		case request == "1 r name":
			return "1 1 Lock Release Success: name\n"
		case request == "0 ping" && rounds.Load() < 3:
			p := <-runner
			p.Signal(syscall.SIGSTOP)
			await(t, func() bool { return state(p.Pid) == 'T' })
			time.AfterFunc(1500*time.Millisecond, func() {
				rounds.Add(1)
				runner <- p
				p.Signal(syscall.SIGCONT)
			})
		}
		return "0 1 pong\n"
	}))
	r := beginAt(t, addr, "name", "--lost-after", "1500ms", "--", "sh", "-c", untilInput)
	runner <- r.cmd.Process
	r.says("ready")
	await(t, func() bool { return rounds.Load() == 3 })
	io.WriteString(r.in, "go\n")
	r.ends(0)
	if r.err.Len() > 0 {
		t.Errorf("stderr %q", r.err.String())
	}
}

// TestRunStoppedWhileWaiting: what was granted in time is had, though lockd was
// stopped until the time was up.
func TestRunStoppedWhileWaiting(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g name", "1 Lock Get Success: name")
	r := begin(t, d, "name", "--wait", "800ms", "--", "echo", "hi")
	await(t, func() bool { return strings.Contains(stats(holder), "command_gw: 1\n") })
	r.cmd.Process.Signal(syscall.SIGSTOP)
	await(t, func() bool { return state(r.cmd.Process.Pid) == 'T' })
	holder.ask("r name", "1 Lock Release Success: name")
	time.Sleep(time.Second)
	r.cmd.Process.Signal(syscall.SIGCONT)
	r.ends2("hi\n")
}

func TestRunStopsAndContinues(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	r := begin(t, d, "name", "--", "sh", "-c", `echo $$; read line; echo $line`)
	pid := r.number()
	r.cmd.Process.Signal(syscall.SIGTSTP)
	await(t, func() bool { return state(pid) == 'T' && state(r.cmd.Process.Pid) == 'T' })
	dial(t, "tcp", d.addr("tcp")).ask("i name", "1 Lock Is Locked: name")
	r.cmd.Process.Signal(syscall.SIGCONT)
	await(t, func() bool { return state(pid) != 'T' })
	io.WriteString(r.in, "on\n")
	r.says("on")
	r.ends(0)
}
