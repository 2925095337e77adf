package main_test

import (
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// TestRunStoppedIsThere: a holder whose process is stopped is there as long as its
// machine is, also for those who wait; when it is killed, its lock is free at once.
func TestRunStoppedIsThere(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--dead-peer-timeout", "2s")
	r := begin(t, d, "name", "--", "sh", "-c", untilInput)
	r.says("ready")
	c := dial(t, "tcp", d.addr("tcp"))
	r.cmd.Process.Signal(syscall.SIGSTOP)
	await(t, func() bool { return state(r.cmd.Process.Pid) == 'T' })
	c.ask("gw 5000 name", "0 Lock Get Timeout: name")
	r.cmd.Process.Signal(syscall.SIGCONT)
	c.ask("gw 200 name", "0 Lock Get Timeout: name")
	io.WriteString(r.in, "go\n")
	r.ends(0)

	r = begin(t, d, "name", "--", "sh", "-c", untilInput)
	r.says("ready")
	r.cmd.Process.Signal(syscall.SIGKILL)
	c.ask("gw 60000 name", "1 Lock Get Success: name")
	r.cmd.Wait()
}

// TestRunCutOff: a command whose lockd run cannot reach its server is told before
// anybody else gets the lock, and ended, whichever way the network is cut.
func TestRunCutOff(t *testing.T) {
	t.Parallel()
	for _, way := range netlab.Ways {
		t.Run(way.String(), func(t *testing.T) {
			t.Parallel()
			lab := netlab.New(t)
			serve := exec.Command(binary, "-t", netlab.Near+":9999", "--admin", "off", "--dead-peer-timeout", "3s")
			lab.NearCommand(serve)
			startWith(t, serve)
			cmd := exec.Command(binary, "run", "-s", netlab.Near+":9999", "name", "--kill-after", "500ms", "--",
				"sh", "-c", "trap 'date +%s.%N; exit 3' TERM; echo ready; while :; do sleep 0.01; done")
			lab.FarCommand(cmd)
			holder := beginCommand(t, cmd)
			holder.says("ready")
			next := exec.Command(binary, "run", "-s", netlab.Near+":9999", "name", "--", "date", "+%s.%N")
			lab.NearCommand(next)
			waiter := beginCommand(t, next)
			time.Sleep(100 * time.Millisecond) // it is likely to wait by now; the order is the same if not
			lab.Cut(way)
			told := holder.line()
			got := waiter.line()
			if len(told) != len(got) || strings.Compare(told, got) >= 0 {
				t.Errorf("the holder was told at %s, and the next one had the lock at %s", told, got)
			}
			waiter.ends(0)
			holder.exits(3)
		})
	}
}
