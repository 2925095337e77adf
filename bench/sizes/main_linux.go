// Sizes measures what a server's resident memory grows by for each session, wait,
// lock, hold and rate: the figures in docs/operations.md.
//
//	go run ./bench/sizes
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// Ten connections with 50,000 each: as many as a connection has sessions, nearly.
const connections, each = 10, 50_000

// settle is for how long the server is left alone before its memory is read, for
// the garbage of what went before.
const settle = 3 * time.Second

// kinds are what is measured. SESSION and N stand for numbers.
var kinds = []struct {
	what, line string
	waits      bool
}{
	{what: "session of protocol 2", line: "SESSION ping"},
	{what: "session that waits for a lock", line: "SESSION gw 86400000 the-busy-lock-01", waits: true},
	{what: "session that holds a lock", line: "SESSION g lock-N"},
	{what: "session that holds a shared lock, one for all", line: "SESSION sg the-busy-lock-01"},
	{what: "lock, all in one session", line: "0 g lock-N"},
	{what: "rate", line: "0 rl 5 86400000 1 rate-N"},
}

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "lockd-sizes")
	check(err)
	defer os.RemoveAll(dir)
	lockd := filepath.Join(dir, "lockd")
	out, err := exec.Command("go", "build", "-o", lockd, "./cmd/lockd").CombinedOutput()
	if err != nil {
		log.Fatalf("%s%v", out, err)
	}
	for _, k := range kinds {
		fmt.Printf("%-50s %4d bytes\n", k.what, measure(lockd, k.line, k.waits))
	}
}

// measure starts a server and returns by how many bytes a line has it grow.
func measure(lockd, line string, waits bool) int {
	cmd := exec.Command(lockd, "--tcp", "127.0.0.1:0", "--admin", "off", "--max-share", "off")
	stderr, err := cmd.StderrPipe()
	check(err)
	check(cmd.Start())
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	first, err := bufio.NewReader(stderr).ReadString('\n')
	check(err)
	addr := regexp.MustCompile(`tcp=(\S+)`).FindStringSubmatch(first)[1]

	var clients []*client
	for range connections + 1 {
		c, err := net.Dial("tcp", addr)
		check(err)
		clients = append(clients, &client{c, bufio.NewReader(c)})
	}
	clients[connections].ask("g the-busy-lock-01\n", 1)
	clients = clients[:connections]
	for _, c := range clients {
		c.ask("hello 2\n", 1)
	}
	time.Sleep(settle)
	before := resident(cmd.Process.Pid)
	number := regexp.MustCompile(`SESSION|N$`)
	for i, c := range clients {
		for n := 1; n <= each; {
			lines := ""
			from := n
			for ; n <= each && n < from+1000; n++ {
				lines += number.ReplaceAllStringFunc(line, func(what string) string {
					if what == "N" {
						return fmt.Sprintf("%010d", i*each+n) // so names have 15 bytes
					}
					return strconv.Itoa(n)
				}) + "\n"
			}
			if waits {
				c.ask(lines+"0 ping\n", 1)
			} else {
				c.ask(lines, n-from)
			}
		}
	}
	time.Sleep(settle)
	return (resident(cmd.Process.Pid) - before) / (connections * each)
}

type client struct {
	net.Conn
	replies *bufio.Reader
}

func (c *client) ask(lines string, replies int) {
	_, err := c.Write([]byte(lines))
	check(err)
	for range replies {
		_, err := c.replies.ReadSlice('\n')
		check(err)
	}
}

// resident returns a process's resident memory.
func resident(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(err)
	kilobytes, err := strconv.Atoi(string(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindSubmatch(status)[1]))
	check(err)
	return kilobytes << 10
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
