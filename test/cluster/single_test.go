package cluster_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is a lockd that serves.
type process struct {
	*exec.Cmd
	addr string
	log  *output
}

// An output is what a process says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// commands run a lockd, and ask those that serve.
type commands struct {
	t       *testing.T
	binary  string
	highest uint64 // token so far
	n       int
}

func (c *commands) serve(args ...string) *process {
	c.t.Helper()
	p := &process{addr: freePort(c.t), log: new(output)}
	p.Cmd = exec.Command(c.binary, append([]string{"-t", p.addr, "--admin", "off", "--dead-peer-timeout", "2s", "--max-keep", "2s"}, args...)...)
	p.Stderr = p.log
	if err := p.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
		if c.t.Failed() {
			c.t.Logf("%q:\n%s", p.Args[1:], p.log)
		}
	})
	eventually(c.t, "listening", func() bool {
		conn, err := net.Dial("tcp", p.addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return p
}

// node is one of a cluster.
func (c *commands) node(name, url string) *process {
	c.t.Helper()
	addr := freePort(c.t)
	return c.serve("-t", addr, "--cluster", url, "--node", name, "--advertise", addr)
}

func (p *process) end(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	p.Wait()
}

// says runs a command, which has to end with that code and say that.
func (c *commands) says(code int, want string, args ...string) string {
	c.t.Helper()
	cmd := exec.Command(c.binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		c.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !regexp.MustCompile(want).MatchString(out.String()+errs.String()) {
		c.t.Fatalf("%q: %d, %q, %q; want %d, %q", args, got, out.String(), errs.String(), code, want)
	}
	return out.String()
}

// grow takes locks of names that nobody has had, and of one that all have had, at some
// servers: all the tokens have to be above those that any earlier one gave. It returns how
// long that took when the first was there.
func (c *commands) grow(what string, from ...*process) (took time.Duration) {
	c.t.Helper()
	before := c.highest
	for _, p := range from {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			c.t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(conn)
		ask := func(request string) string {
			fmt.Fprintln(conn, request)
			line, err := in.ReadString('\n')
			if err != nil {
				c.t.Fatalf("%s: %q: %v", what, request, err)
			}
			return line
		}
		begun := time.Now()
		for i := range 100 {
			name := "same"
			if i > 0 {
				c.n++
				name = fmt.Sprint("x", c.n)
			}
			if got := ask("gw 30000 " + name); !strings.HasPrefix(got, "1 ") {
				c.t.Fatalf("%s: %q", what, got)
			}
			if i == 0 {
				begun = time.Now()
			}
			var token uint64
			if got := ask("t " + name); !strings.HasSuffix(got, " Lock Token: "+name+"\n") {
				c.t.Fatalf("%s: %q", what, got)
			} else if fmt.Sscan(got, &token); token <= before {
				c.t.Fatalf("%s: %s has the token %d, %d below an earlier one", what, name, token, before-token)
			}
			c.highest = max(c.highest, token)
			ask("r " + name)
		}
		took = max(took, time.Since(begun))
	}
	return took
}

// prompt is how long a hundred grants may take, where nothing waits for a clock that is
// hours behind.
const prompt = 10 * time.Second

// TestFromOneServerAndBack: from a server to a cluster, and back, and to another cluster.
// All of their clocks are one, hours behind the tokens: so these do not rest on it.
func TestFromOneServerAndBack(t *testing.T) {
	t.Parallel()
	c := &commands{t: t, binary: program(t)}
	e := newEnsemble(t, 1, nil)
	url, other := e.url("/c"), e.url("/other")
	dir := t.TempDir()
	file, next := filepath.Join(dir, "state"), filepath.Join(dir, "next")

	c.highest = uint64(time.Now().Add(5 * time.Hour).UnixMicro())
	c.says(0, `^$`, "state", "new", file, "--tokens-above", fmt.Sprint(c.highest))
	c.says(0, `none yet: the file follows other servers`, "state", "show", file)
	single := c.serve("--state", file)
	if took := c.grow("the first server", single); took > prompt {
		t.Errorf("it took %v", took)
	}
	c.says(1, `state: another server has it \(`, "cluster", "init", "--cluster", url, "--state", file)
	c.says(1, `there is no cluster at `, "state", "new", next, "--from-cluster", url)
	single.end(t, syscall.SIGTERM)

	made := c.says(0, ``, "cluster", "init", "--cluster", url, "--state", file, "--node-timeout", "1s", "--holder-timeout", "3s", "--json")
	var doc struct{ Base uint64 }
	if err := json.Unmarshal([]byte(made), &doc); err != nil || doc.Base <= c.highest {
		t.Errorf("the cluster is made: %q, %v; there was %d", made, err, c.highest)
	}
	c.says(1, `has a cluster already`, "cluster", "init", "--cluster", url, "--state", file)
	c.says(2, `--state: is for a server that is alone: .*lockd cluster init --state`, "-t", "127.0.0.1:0", "--admin", "off", "--cluster", url, "--advertise", "127.0.0.1:1", "--state", file)
	a, b := c.node("a", url), c.node("b", url)
	if took := c.grow("a cluster after it", a, b); took > prompt {
		t.Errorf("it took %v", took)
	}

	// Both nodes are killed.
	c.says(1, `nodes live, and may grant: (a, b|b, a|a|b)\. Stop all of them`, "state", "new", next, "--from-cluster", url)
	a.end(t, syscall.SIGKILL)
	c.says(1, `: nodes live, and may grant: b\. Stop`, "state", "new", next, "--from-cluster", url)
	b.end(t, syscall.SIGKILL)
	var status struct {
		Highest uint64 `json:"highest_token"`
	}
	if err := json.Unmarshal([]byte(c.says(1, ``, "cluster", "status", "--cluster", url, "--json")), &status); err != nil || status.Highest < c.highest {
		t.Errorf("%d, %v; there was %d", status.Highest, err, c.highest)
	}
	c.says(0, `^lockd: (1 node is|2 nodes are) registered: looking for 1\.1s`, "state", "new", next, "--from-cluster", url)
	c.says(1, `there is one already`, "state", "new", next, "--from-cluster", url)
	single = c.serve("--state", next)
	if took := c.grow("a server after the cluster", single); took > prompt {
		t.Errorf("it took %v", took)
	}
	single.end(t, syscall.SIGKILL)
	single = c.serve("--state", next)
	c.grow("that server when it was killed", single)
	single.end(t, syscall.SIGTERM)

	// Into a cluster of its own, by the number that the file shows; and from there with all
	// nodes stopped as they should be.
	shown := regexp.MustCompile(`tokens +below (\d+)`).FindStringSubmatch(c.says(0, ``, "state", "show", next))
	c.says(0, `is made: .* Fencing tokens begin with \d+; `, "cluster", "init", "--cluster", other, "--tokens-above", shown[1], "--node-timeout", "1s", "--holder-timeout", "3s")
	a = c.node("a", other)
	c.grow("another cluster", a)
	a.end(t, syscall.SIGTERM)
	last := filepath.Join(dir, "last")
	c.says(0, `^$`, "state", "new", last, "--from-cluster", other)
	c.grow("the last server", c.serve("--state", last))
	if files, _ := filepath.Glob(filepath.Join(dir, "*.new")); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}
