package conn

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// Since when somebody holds a lock is when the request was executed, not when it
// came: a client that does not read its replies has it executed later.
func TestAgeBehindUnreadReplies(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		holder := dialUnix(t, path)
		long := strings.Repeat("x", 4000)
		const locks = 300 // by far more bytes than a socket's buffer and the server's have room for
		go func() {
			for i := range locks {
				fmt.Fprintf(holder, "g %s%d\n", long, i)
			}
		}()
		for lines, n := bufio.NewScanner(holder), 0; n < locks && lines.Scan(); n++ {
		}
		c := dialUnix(t, path)
		io.WriteString(c, "g a\nlook* x\ng b\n")
		const pause = 500 * time.Millisecond
		time.Sleep(pause)
		for lines, n := bufio.NewScanner(c), 0; n < locks+3 && lines.Scan(); n++ {
		}
		looker := dialUnix(t, path)
		io.WriteString(looker, "look a\nlook b\n")
		other := bufio.NewReader(looker)
		var ages []time.Duration
		for len(ages) < 2 {
			line, err := other.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var ms int
			if fields := strings.Split(line, "\t"); len(fields) > 3 {
				fmt.Sscan(fields[3], &ms)
				ages = append(ages, time.Duration(ms)*time.Millisecond)
			}
		}
		if early := ages[0] - ages[1]; early < pause/2 {
			t.Errorf("loops %t: ages of %v, want %v between them", loops, ages, pause)
		}
		end()
	}
}
