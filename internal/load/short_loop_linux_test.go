//go:build linux && !noloop

package load

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestShortSources: one address would not have ports enough.
func TestShortSources(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan map[string]bool)
	go func() {
		from := map[string]bool{}
		for range 1 + 2*sourceCount {
			c, err := l.Accept()
			if err != nil {
				break
			}
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			from[host] = true
			if line, _ := bufio.NewReader(c).ReadString('\n'); line != "" {
				fmt.Fprintf(c, "1 Lock Get Success: %s", line[2:])
			}
			c.Close()
		}
		seen <- from
	}()
	got, err := Run(t.Context(), Options{Target: l.Addr().String(), Short: true, Connections: 4, Requests: 2 * sourceCount})
	l.Close()
	if from := <-seen; err != nil || len(got.Errors) > 0 || len(from) < sourceCount {
		t.Errorf("%+v, %v, from %v", got, err, from)
	}
}

// TestShortLine: a unix socket has a bound on those who want to connect. Who
// comes too early comes again.
func TestShortLine(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "s")
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), path)
	l, err := net.FileListener(file)
	file.Close()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, _ := bufio.NewReader(c).ReadString('\n'); line != "" {
				fmt.Fprintf(c, "1 Lock Get Success: %s", line[2:])
			}
			c.Close()
		}
	}()
	got, err := Run(t.Context(), Options{Target: "unix://" + path, Short: true, Connections: 20, Requests: 100})
	l.Close()
	<-done
	if err != nil || got.Requests != 100 || len(got.Errors) > 0 {
		t.Errorf("%+v, %v", got, err)
	}
}
