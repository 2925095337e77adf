package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attackers are the addresses of clients of which none alone can use up the
// memory.
var attackers = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}

// from connects to a server from an address.
func from(t *testing.T, ip, addr string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// residentPeak is the most memory that a process has had, in bytes.
func residentPeak(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kb, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}

// fillUntil sends requests until a reply begins so, and tells how many were sent.
func fillUntil(t *testing.T, c net.Conn, refusal string, request func(i int) string) int {
	t.Helper()
	in := bufio.NewReaderSize(c, 64<<10)
	const batch = 50
	for i := 0; i < 1_000_000; {
		var b bytes.Buffer
		for range batch {
			b.WriteString(request(i))
			i++
		}
		if _, err := c.Write(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		for n := range batch {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, refusal) {
				return i - batch + n
			}
		}
	}
	t.Fatal("nothing was refused")
	return 0
}

// Whatever clients have a server keep, its process stays below --max-memory, who
// holds something goes on, and when they are gone there is room again.
func TestMaxMemory(t *testing.T) {
	const bound = 48 << 20
	// The collector does not keep up at once with hundreds that come in a tenth of a
	// second, least with one processor; at a small bound that is a part of it.
	const most = bound + bound/4
	long := strings.Repeat("n", 4000)
	// fill has each attacker ask for things until it is refused.
	fill := func(hello string, request func(i int) string) func(*testing.T, *daemon) {
		return func(t *testing.T, d *daemon) {
			for n, ip := range attackers {
				c := from(t, ip, d.addr("tcp"))
				if hello != "" {
					fmt.Fprintf(c, "%s\n", hello)
					if line, err := bufio.NewReaderSize(c, 16).ReadString('\n'); err != nil || !strings.HasPrefix(line, "2 ") {
						t.Fatal(line, err)
					}
				}
				fillUntil(t, c, " Server Full", func(i int) string { return request(1_000_000*n + i) })
			}
		}
	}
	// crowd has many connections, with something on each.
	crowd := func(size int, transport string, begin func(c *net.TCPConn)) func(*testing.T, *daemon) {
		return func(t *testing.T, d *daemon) {
			for n := range size {
				c := from(t, attackers[n%len(attackers)], d.addr(transport))
				begin(c)
			}
		}
	}
	for _, c := range []struct {
		name   string
		attack func(*testing.T, *daemon)
	}{
		{"locks", fill("", func(i int) string { return fmt.Sprintf("g %d %s\n", i, long) })},
		{"short names", fill("", func(i int) string { return fmt.Sprintf("g %d\n", i) })},
		{"shared locks", fill("", func(i int) string { return fmt.Sprintf("sg %d %s\n", i, long) })},
		{"rates", fill("", func(i int) string { return fmt.Sprintf("rl 1 60000 1 %d %s\n", i, long) })},
		{"registered names", fill("hello 2", func(i int) string { return fmt.Sprintf("%d iam %d %s\n", i, i, long) })},
		{"waiters", func(t *testing.T, d *daemon) {
			holder := from(t, "127.0.0.9", d.addr("tcp"))
			ask(t, holder, "g "+long, "1 Lock Get Success: "+long)
			for _, ip := range attackers {
				c := from(t, ip, d.addr("tcp"))
				in := bufio.NewReader(c)
				fmt.Fprintf(c, "hello 2\n")
				in.ReadString('\n')
				refused := make(chan struct{})
				go func() {
					defer close(refused)
					for {
						line, err := in.ReadString('\n')
						if err != nil || strings.Contains(line, " Server Full") {
							return
						}
					}
				}()
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(c, "%d gw 86400000 %s\n", i, long); err != nil {
						t.Fatal(err)
					}
					select {
					case <-refused:
					default:
						continue
					}
					break
				}
			}
		}},
		{"beginnings of lines", crowd(600, "tcp", func(c *net.TCPConn) {
			c.Write(bytes.Repeat([]byte("x"), 60_000))
		})},
		{"requests behind a wait", crowd(600, "tcp", func(c *net.TCPConn) {
			fmt.Fprintf(c, "gw 86400000 held\n%s", strings.Repeat("i something or other\n", 2800))
		})},
		{"replies that nobody reads", crowd(300, "tcp", func(c *net.TCPConn) {
			c.SetReadBuffer(4 << 10)
			fmt.Fprintf(c, "g %s\n%s", strings.Repeat("n", 60_000), strings.Repeat("look* \n", 2000))
		})},
		{"parts of WebSocket messages", crowd(600, "websocket", func(c *net.TCPConn) {
			fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
			in := bufio.NewReader(c)
			for line := ""; line != "\r\n"; {
				var err error
				if line, err = in.ReadString('\n'); err != nil {
					return // refused
				}
			}
			frame := []byte{0x82, 0xfe, 65_000 >> 8, 65_000 & 0xff, 0, 0, 0, 0}
			c.Write(append(frame, make([]byte, 60_000)...))
		})},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := start(t, nil, "-t", anyPort, "-w", anyPort, "--admin", "off", "--max-memory", "48MiB", "--max-line", "65536")
			holder := from(t, "127.0.0.1", d.addr("tcp"))
			ask(t, holder, "g held", "1 Lock Get Success: held")
			c.attack(t, d)
			ask(t, holder, "g held", "1 Lock Get Success: held")
			ask(t, holder, "r held", "1 Lock Release Success: held")
			ask(t, holder, "i held", "1 Lock Is Locked: held", "0 Lock Not Locked: held")
			if peak := residentPeak(t, d.cmd.Process.Pid); peak > most {
				t.Errorf("the process has had %d KiB of %d", peak>>10, bound>>10)
			} else {
				t.Logf("the process has had %d KiB of %d", peak>>10, bound>>10)
			}
		})
	}
}

// ask sends a request and wants one of some replies.
func ask(t *testing.T, c net.Conn, request string, replies ...string) {
	t.Helper()
	fmt.Fprintf(c, "%s\n", request)
	line, err := bufio.NewReaderSize(c, 64<<10).ReadString('\n')
	for _, r := range replies {
		if line == r+"\n" {
			return
		}
	}
	t.Fatalf("%.40q is answered %.60q, %v", request, line, err)
}
