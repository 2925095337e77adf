package netlab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A Cable is what is between two machines, near and far. It is one goroutine's to cut.
type Cable struct {
	near, far string
	unplugged string // the machine at whose end it is; "": neither
}

var cables atomic.Int32

// Lay makes two machines with a cable between them. Their names have the process's
// number in them: any number of processes may have some.
func Lay() (*Cable, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: they need root", ErrUnavailable)
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: they need %s (packages iproute2 and nftables): %w", ErrUnavailable, program, err)
		}
	}
	n := cables.Add(1)
	c := &Cable{near: fmt.Sprintf("lockd-%d-%d-near", os.Getpid(), n), far: fmt.Sprintf("lockd-%d-%d-far", os.Getpid(), n)}
	if err := run("ip netns add " + c.near); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := c.connect(); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

func (c *Cable) connect() error {
	commands := []string{"ip netns add " + c.far, "ip -n " + c.near + " link add cable type veth peer name cable netns " + c.far}
	for _, m := range []struct{ name, addr string }{{c.near, Near}, {c.far, Far}} {
		on := "ip -n " + m.name + " "
		commands = append(commands, on+"addr add "+m.addr+"/24 dev cable", on+"link set lo up", on+"link set cable up")
	}
	for _, command := range commands {
		if err := run(command); err != nil {
			return err
		}
	}
	return c.Mend()
}

func run(command string) error { return runWith("", command) }

func runWith(input, command string) error {
	words := strings.Fields(command)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s%s", command, err, out, input)
	}
	return nil
}

// Remove ends both machines. Processes that run there go on, and no packet reaches them.
func (c *Cable) Remove() error {
	err := run("ip netns del " + c.near)
	if _, no := os.Stat("/var/run/netns/" + c.far); no == nil {
		err = errors.Join(err, run("ip netns del "+c.far))
	}
	return err
}

// AtNear runs f, in which sockets that this goroutine makes are the near machine's.
func (c *Cable) AtNear(f func()) error { return at(c.near, f) }

// AtFar does the same on the far one.
func (c *Cable) AtFar(f func()) error { return at(c.far, f) }

func at(name string, f func()) error {
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
		return fmt.Errorf("cannot enter %s: %w", name, err)
	}
	return nil
}

// NearCommand has a command run on the near machine, with the same process number.
func (c *Cable) NearCommand(cmd *exec.Cmd) error { return command(c.near, cmd) }

// FarCommand does the same on the far one.
func (c *Cable) FarCommand(cmd *exec.Cmd) error { return command(c.far, cmd) }

func command(machine string, cmd *exec.Cmd) error {
	ip, err := exec.LookPath("ip")
	if err != nil {
		return err
	}
	cmd.Args = append([]string{ip, "netns", "exec", machine, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = ip
	return nil
}

// Cut cuts the far machine off, until Mend.
func (c *Cable) Cut(w Way) error {
	switch w {
	case LinkDown:
		return c.unplug(c.far)
	case FarDown:
		return c.unplug(c.near)
	case Deaf:
		return c.Lose(Loss{In: 100})
	case Mute:
		return c.Lose(Loss{Out: 100})
	default:
		return c.Lose(Loss{In: 100, Out: 100})
	}
}

func (c *Cable) unplug(machine string) error {
	c.unplugged = machine
	return run("ip -n " + machine + " link set cable down")
}

// fresh begins a script of nft with nothing dropped, whatever was.
const fresh = "table inet cut\ndelete table inet cut\n"

// Lose has the cable lose packets, until Mend or another loss.
func (c *Cable) Lose(l Loss) error {
	chain := func(hook, iface, port string, percent int) string {
		rules := ""
		switch {
		case percent >= 100:
			rules = iface + " cable drop; "
		case percent > 0:
			rules = fmt.Sprintf("%s cable numgen random mod 100 < %d drop; ", iface, percent)
		}
		if l.Parts > 0 {
			rules += fmt.Sprintf("%s cable tcp %s & %d == %d drop; ", iface, port, l.Parts-1, l.Part)
		}
		return fmt.Sprintf("chain %s { type filter hook %s priority 0; %s}; ", hook, hook, rules)
	}
	return c.filter(fresh + "table inet cut { " + chain("input", "iifname", "dport", l.In) + chain("output", "oifname", "sport", l.Out) + "}\n")
}

func (c *Cable) filter(script string) error {
	return runWith(script, "ip netns exec "+c.far+" nft -f -")
}

// Mend takes all of it back.
func (c *Cable) Mend() error {
	if c.unplugged != "" {
		if err := run("ip -n " + c.unplugged + " link set cable up"); err != nil {
			return err
		}
		c.unplugged = ""
	}
	return c.filter(fresh)
}
