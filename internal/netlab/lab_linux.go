package netlab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A Lab is two machines, near and far, with a cable between them.
type Lab struct {
	t         testing.TB
	near, far string
	cut       Way
	isCut     bool
}

var labs atomic.Int32

// New makes a lab for a test, which is skipped where that needs what is not there.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s (packages iproute2 and nftables): %v", program, err)
		}
	}
	n := labs.Add(1)
	l := &Lab{t: t, near: fmt.Sprintf("lockd-%d-%d-near", os.Getpid(), n), far: fmt.Sprintf("lockd-%d-%d-far", os.Getpid(), n)}
	if out, err := exec.Command("ip", "netns", "add", l.near).CombinedOutput(); err != nil {
		t.Skipf("no network namespace can be made: %v: %s", err, out)
	}
	t.Cleanup(func() { exec.Command("ip", "netns", "del", l.near).Run() })
	l.run("ip netns add " + l.far)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", l.far).Run() })
	l.run("ip -n " + l.near + " link add cable type veth peer name cable netns " + l.far)
	for ns, addr := range map[string]string{l.near: Near, l.far: Far} {
		l.run("ip -n " + ns + " addr add " + addr + "/24 dev cable")
		l.run("ip -n " + ns + " link set lo up")
		l.run("ip -n " + ns + " link set cable up")
	}
	l.run("ip netns exec " + l.far + " nft add table inet cut")
	return l
}

func (l *Lab) run(command string) {
	l.t.Helper()
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// AtNear runs f, in which sockets that this goroutine makes are the near machine's.
func (l *Lab) AtNear(f func()) { l.at(l.near, f) }

// AtFar does the same on the far one.
func (l *Lab) AtFar(f func()) { l.at(l.far, f) }

func (l *Lab) at(name string, f func()) {
	// The thread ends with the goroutine if it cannot go back.
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			home, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer home.Close()
			ns, err := os.Open("/var/run/netns/" + name)
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			f()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		l.t.Errorf("cannot enter %s: %v", name, err)
	}
}

// NearCommand has a command run on the near machine.
func (l *Lab) NearCommand(cmd *exec.Cmd) { l.command(l.near, cmd) }

// FarCommand does the same on the far one.
func (l *Lab) FarCommand(cmd *exec.Cmd) { l.command(l.far, cmd) }

func (l *Lab) command(machine string, cmd *exec.Cmd) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		l.t.Fatal(err)
	}
	cmd.Args = append([]string{ip, "netns", "exec", machine, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = ip
}

// Cut cuts the far machine off, until Mend.
func (l *Lab) Cut(w Way) {
	l.t.Helper()
	l.cut, l.isCut = w, true
	nft := "ip netns exec " + l.far + " nft "
	if w == Both || w == Deaf {
		l.run(nft + "add chain inet cut in { type filter hook input priority 0 ; policy drop ; }")
	}
	if w == Both || w == Mute {
		l.run(nft + "add chain inet cut out { type filter hook output priority 0 ; policy drop ; }")
	}
	switch w {
	case LinkDown:
		l.run("ip -n " + l.far + " link set cable down")
	case FarDown:
		l.run("ip -n " + l.near + " link set cable down")
	}
}

// Mend takes it back.
func (l *Lab) Mend() {
	l.t.Helper()
	switch {
	case !l.isCut:
	case l.cut == LinkDown:
		l.run("ip -n " + l.far + " link set cable up")
	case l.cut == FarDown:
		l.run("ip -n " + l.near + " link set cable up")
	default:
		l.run("ip netns exec " + l.far + " nft flush table inet cut")
		l.run("ip netns exec " + l.far + " nft delete table inet cut")
		l.run("ip netns exec " + l.far + " nft add table inet cut")
	}
	l.isCut = false
}
