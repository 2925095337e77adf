//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/netlab"
)

// build makes lockd.
func build(dir string, flags []string) (string, error) {
	path := filepath.Join(dir, "lockd")
	cmd := exec.Command("go", append(append([]string{"build"}, flags...), "-o", path, "./cmd/lockd")...)
	cmd.Dir = filepath.Join("..", "..") // the module around this one
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// A dialer connects to somebody, wherever that is, within a time.
type dialer func(within time.Duration) (net.Conn, error)

// dialTo returns one for an address that can be reached from here.
func dialTo(network, addr string) dialer {
	return func(within time.Duration) (net.Conn, error) { return net.DialTimeout(network, addr, within) }
}

// A process is a lockd, server or proxy, that is killed and started again at the same
// address.
type process struct {
	program string
	args    []string
	addr    string
	dial    dialer
	enter   func(*exec.Cmd) error // nil: it runs on this machine
	log     string                // a file, of all its lives
	cmd     *exec.Cmd
	started time.Duration

	mu     sync.Mutex    // guards what follows
	killed time.Duration // when, the last time
}

// newProcess returns one that listens at an address of its own, which stays free for it.
func newProcess(program, dir, name string, args ...string) (*process, error) {
	host := netlab.OwnHost()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	addr := l.Addr().String()
	p := &process{program: program, addr: addr, dial: dialTo("tcp", addr), log: filepath.Join(dir, name+".log")}
	p.args = append([]string{name, "--tcp", addr, "--admin", host + ":0"}, args...)
	return p, nil
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.program, p.args...)
	p.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "LOCKD_") })
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive a test that panics
	if p.enter != nil {
		if err := p.enter(p.cmd); err != nil {
			return err
		}
	}
	p.started = now()
	return p.cmd.Start()
}

// kill ends it without a word, and returns when that was.
func (p *process) kill() time.Duration {
	at := now()
	p.mu.Lock()
	p.killed = at
	p.mu.Unlock()
	p.cmd.Process.Kill()
	p.cmd.Wait()
	return at
}

// killedSince tells whether it has been killed since a connection to it was made: then
// that connection has ended for this, at the latest.
func (p *process) killedSince(connected time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed > connected
}

func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// patience is for what takes no time, on a machine that has to do with others.
const patience = 30 * time.Second

// await waits until it takes connections, also by what else it listens at.
func (p *process) await(ctx context.Context, also ...dialer) error {
	all := append(also, p.dial)
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil && p.cmd.ProcessState == nil; {
		c, err := all[0](time.Second)
		if err != nil {
			time.Sleep(3 * time.Millisecond)
			continue
		}
		c.Close()
		if all = all[1:]; len(all) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%s does not listen at %s; its log:\n%s", p.args[0], p.addr, p.tail(20))
}

// stop ends it as one should.
func (p *process) stop() error {
	p.signal(syscall.SIGTERM)
	timer := time.AfterFunc(patience, func() { p.cmd.Process.Kill() })
	defer timer.Stop()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("%s ends with %w; its log:\n%s", p.args[0], err, p.tail(20))
	}
	return nil
}

func (p *process) tail(n int) string {
	text, _ := os.ReadFile(p.log)
	lines := slices.Collect(strings.Lines(string(text)))
	return strings.Join(lines[max(0, len(lines)-n):], "")
}

// complaints are the lines of its log that no process should write.
func (p *process) complaints() error {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		// A proxy that is forgotten has asked before its deadline: after that it does not.
		for _, bad := range []string{"panic", "fatal error", "DATA RACE", "level=ERROR", "upstream has forgotten the proxy"} {
			if strings.Contains(line, bad) {
				return errors.New(p.args[0] + " has logged " + line)
			}
		}
	}
	return nil
}
