package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// kind is a kind of server.
type kind struct {
	name    string
	scheme  string // of load targets
	program string // empty: built here
	pkg     string // that has the program
	shared  bool   // has shared locks
	floor   bool   // is no server of locks
	get     string // asks for the lock %s, whose name has nameSize bytes
	got     string // the reply if it is had
	ask     string // asks for something else
	args    func(c *compare, port string) []string
}

var kinds = []*kind{
	{
		name: "lockd", scheme: "tcp", shared: true,
		get: wire.Get + " %s\n", got: "1 " + wire.GetSuccess, ask: wire.Inspect + " x\n",
		args: func(c *compare, port string) []string {
			return []string{filepath.Join(c.dir, "lockd"), "--tcp", "127.0.0.1:" + port, "--admin", "off"}
		},
	},
	{
		name: "bare echo", scheme: "tcp", floor: true,
		args: func(c *compare, port string) []string {
			return []string{filepath.Join(c.dir, "floor"), "-listen", "127.0.0.1:" + port}
		},
	},
	{
		name: "Redis", scheme: "redis", program: "redis-server", pkg: "redis-server",
		get: "*4\r\n$3\r\nSET\r\n$16\r\n%s\r\n$1\r\n1\r\n$2\r\nNX\r\n", got: "+OK", ask: "*2\r\n$6\r\nEXISTS\r\n$1\r\nx\r\n",
		args: func(c *compare, port string) []string {
			// Protected mode knows 127.0.0.1 only; short connections come from more of 127.0.0.0/8.
			return []string{"redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
				"--io-threads", "1", "--protected-mode", "no", "--maxclients", strconv.Itoa(c.idle + 1000), "--dir", c.dir, "--loglevel", "warning"}
		},
	},
	{
		name: "memcached", scheme: "memcached", program: "memcached", pkg: "memcached",
		get: "add %s 0 0 1\r\n1\r\n", got: "STORED", ask: "mg x\r\n",
		args: func(c *compare, port string) []string {
			args := []string{"memcached", "-l", "127.0.0.1", "-p", port, "-U", "0", "-t", "1", "-m", "4096", "-c", strconv.Itoa(c.idle + 1000)}
			if os.Getuid() == 0 {
				args = append(args, "-u", "root")
			}
			return args
		},
	},
}

// available returns the kinds that can be had here.
func (c *compare) available() []*kind {
	var have []*kind
	for _, k := range kinds {
		if k.program != "" {
			if err := c.install(k); err != nil {
				c.say("without %s: %v", k.name, err)
				continue
			}
		}
		have = append(have, k)
	}
	return have
}

func (c *compare) install(k *kind) error {
	if _, err := exec.LookPath(k.program); err == nil {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		return fmt.Errorf("%s is not installed", k.program)
	}
	c.say("installing %s", k.pkg)
	apt := exec.CommandContext(c.ctx, "apt-get", "install", "-y", "--no-install-recommends", k.pkg)
	apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if err := apt.Run(); err != nil {
		return fmt.Errorf("apt-get install %s: %v", k.pkg, err)
	}
	_, err := exec.LookPath(k.program)
	return err
}

// server is a running server.
type server struct {
	*kind
	addr string
	log  string // file
	cmd  *exec.Cmd
	dead bool
}

// start starts a server on a core of its own and waits until it listens.
func (c *compare) start(k *kind) (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	// taskset becomes the server, so the process is the server's.
	cmd := exec.Command("taskset", append([]string{"-c", c.cores[0]}, k.args(c, port)...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GODEBUG=gctrace=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	log, err := os.Create(filepath.Join(c.dir, k.scheme+port+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %v", k.name, err)
	}
	s := &server{kind: k, addr: "127.0.0.1:" + port, log: log.Name(), cmd: cmd}
	for range 200 {
		conn, err := net.Dial("tcp", s.addr)
		if err == nil {
			conn.Close()
			return s, nil
		}
		if c.ctx.Err() != nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.kill()
	said, _ := os.ReadFile(log.Name())
	return nil, errors.New("cannot start " + k.name + ": " + strings.TrimSpace(string(said)))
}

func (s *server) target() string { return s.scheme + "://" + s.addr }
func (s *server) pid() int       { return s.cmd.Process.Pid }

// pause stops the server once it had time to see the connections end.
func (s *server) pause() {
	time.Sleep(100 * time.Millisecond)
	s.cmd.Process.Signal(syscall.SIGSTOP)
}

func (s *server) resume() { s.cmd.Process.Signal(syscall.SIGCONT) }

func (s *server) kill() {
	if s.dead {
		return
	}
	s.dead = true
	s.cmd.Process.Kill()
	s.cmd.Wait()
}
