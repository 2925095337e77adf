//go:build linux

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

// A yesman stands before a server that keeps nobody, and tells its clients that they are
// kept, that they are back, and that whatever they claim is theirs. To them it looks like
// a server that frees what they hold at once when their connection is lost, or, as claims
// goes, like one that gives to others what is about to be claimed.
type yesman struct {
	keep   int // milliseconds
	claims bool
	lies   atomic.Int32
}

func (y *yesman) twist(client, server net.Conn) {
	var to sync.Mutex // what is written to the client
	write := func(format string, args ...any) {
		to.Lock()
		defer to.Unlock()
		fmt.Fprintf(client, format, args...)
	}
	var both sync.WaitGroup
	both.Go(func() {
		defer server.Close()
		for in := bufio.NewReader(client); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			words := strings.SplitN(strings.TrimSpace(line), " ", 4)
			verb := ""
			if len(words) > 1 {
				verb = words[1]
			}
			switch verb {
			case "keep":
				write("0 %d Kept: %032x\n", y.keep, 1)
			case "resume":
				y.lies.Add(1)
				if y.claims {
					write("0 0 Claims Open %d: %s\n", y.keep, words[2])
				} else {
					write("0 1 Resumed: %s\n", words[2])
				}
			case "claim":
				write("%s %s Lock Claim Success: %s\n", words[0], words[2], words[3])
			case "claims":
				write("%s 1 Shared Lock Claim Success: %s\n", words[0], words[3])
			case "claimed":
				write("0 1 ok\n")
			default:
				if _, err := io.WriteString(server, line); err != nil {
					return
				}
			}
		}
	})
	both.Go(func() {
		defer client.Close()
		for in := bufio.NewReader(server); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			write("%s", line)
		}
	})
	both.Wait()
}

// An editor changes what a server says, or is told.
type editor struct {
	request, reply func(line string) string // nil: nothing
	lies           atomic.Int32
}

func (e *editor) twist(client, server net.Conn) {
	var both sync.WaitGroup
	both.Go(func() { e.pass(client, server, e.request) })
	both.Go(func() { e.pass(server, client, e.reply) })
	both.Wait()
}

func (e *editor) pass(from, to net.Conn, edit func(line string) string) {
	defer to.Close()
	for in := bufio.NewReader(from); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if edit != nil {
			if said := edit(line); said != line {
				e.lies.Add(1)
				line = said
			}
		}
		if _, err := io.WriteString(to, line); err != nil {
			return
		}
	}
}
