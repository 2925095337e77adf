package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A Switch has any number of machines, each with a cable of its own to it: a network
// namespace for each and one for itself. Their addresses are the same in all switches,
// and nobody else reaches them.
type Switch struct {
	name     string
	machines []*Machine
}

// A Machine is at a switch. Any goroutine may have it lose packets.
type Machine struct {
	Name string
	Addr string // of IPv4
	ns   string

	mu    sync.Mutex // guards what follows, and the filter
	drops []*Drop
}

// NewSwitch makes one without machines.
func NewSwitch() (*Switch, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: they need root", ErrUnavailable)
	}
	for _, program := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: they need %s (packages iproute2 and nftables): %w", ErrUnavailable, program, err)
		}
	}
	s := &Switch{name: fmt.Sprintf("lockd-%d-%d-", os.Getpid(), cables.Add(1))}
	if err := run("ip netns add " + s.name + "switch"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	for _, command := range []string{"link add switch type bridge", "link set switch up", "link set lo up"} {
		if err := run("ip -n " + s.name + "switch " + command); err != nil {
			return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), s.Remove())
		}
	}
	return s, nil
}

// Machine adds one, whose name is a short word.
func (s *Switch) Machine(name string) (*Machine, error) {
	m := &Machine{Name: name, Addr: fmt.Sprintf("10.98.0.%d", len(s.machines)+1), ns: s.name + name}
	if err := run("ip netns add " + m.ns); err != nil {
		return nil, err
	}
	s.machines = append(s.machines, m)
	port := fmt.Sprintf("port%d", len(s.machines))
	for _, command := range []string{
		s.name + "switch link add " + port + " type veth peer name cable netns " + m.ns,
		s.name + "switch link set " + port + " master switch",
		s.name + "switch link set " + port + " up",
		m.ns + " addr add " + m.Addr + "/24 dev cable",
		m.ns + " link set lo up",
		m.ns + " link set cable up",
	} {
		if err := run("ip -n " + command); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Remove ends it and all machines. Processes that run there go on, and no packet reaches
// them.
func (s *Switch) Remove() error {
	err := run("ip netns del " + s.name + "switch")
	for _, m := range s.machines {
		err = errors.Join(err, run("ip netns del "+m.ns))
	}
	return err
}

// At runs f, in which sockets that this goroutine makes are the machine's.
func (m *Machine) At(f func()) error { return at(m.ns, f) }

// Dial connects from the machine.
func (m *Machine) Dial(network, addr string, within time.Duration) (conn net.Conn, err error) {
	if e := m.At(func() { conn, err = net.DialTimeout(network, addr, within) }); e != nil {
		return nil, e
	}
	return conn, err
}

// DialContext is for an HTTP client that is on the machine.
func (m *Machine) DialContext(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	if e := m.At(func() { conn, err = new(net.Dialer).DialContext(ctx, network, addr) }); e != nil {
		return nil, e
	}
	return conn, err
}

// Command has a command run on the machine, with the same process number.
func (m *Machine) Command(cmd *exec.Cmd) error { return command(m.ns, cmd) }

// Drop has the machine lose packets, besides those that it loses already, until mend.
func (m *Machine) Drop(d Drop) (mend func() error, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one := &d
	m.drops = append(m.drops, one)
	return func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i, other := range m.drops {
			if other == one {
				m.drops = append(m.drops[:i:i], m.drops[i+1:]...)
				return m.filterLocked()
			}
		}
		return nil
	}, m.filterLocked()
}

func (m *Machine) filterLocked() error {
	chain := func(hook, iface, side string, percent func(*Drop) int) string {
		var rules strings.Builder
		for _, d := range m.drops {
			n := percent(d)
			if n <= 0 {
				continue
			}
			what := iface + " cable "
			if len(d.Peers) > 0 {
				var addrs []string
				for _, p := range d.Peers {
					addrs = append(addrs, p.Addr)
				}
				what += "ip " + side + " { " + strings.Join(addrs, ", ") + " } "
			}
			if n < 100 {
				what += fmt.Sprintf("numgen random mod 100 < %d ", n)
			}
			rules.WriteString(what + "drop; ")
		}
		return fmt.Sprintf("chain %s { type filter hook %s priority 0; %s}; ", hook, hook, rules.String())
	}
	script := fresh
	if len(m.drops) > 0 {
		script += "table inet cut { " + chain("input", "iifname", "saddr", func(d *Drop) int { return d.In }) +
			chain("output", "oifname", "daddr", func(d *Drop) int { return d.Out }) + "}\n"
	}
	return runWith(script, "ip netns exec "+m.ns+" nft -f -")
}
