package server_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// TestOneServerAtASocket: of many servers that want a path, where others are
// killed and leave their sockets, one at a time has it, and who connects to
// the path finds that one.
func TestOneServerAtASocket(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no lock files there")
	}
	path := socketPath(t)
	const racers = 4
	var live, won atomic.Int32
	for round := range 100 {
		leaveStale(t, path, round%4 < 2)
		begin := make(chan struct{})
		var listened, ended sync.WaitGroup
		listened.Add(racers)
		for i := range racers {
			ended.Go(func() {
				s, err := server.New(server.Options{Unix: []string{path}, Shards: 1})
				if err != nil {
					listened.Done()
					t.Error(err)
					return
				}
				defer s.Shutdown(canceled())
				<-begin
				err = s.Listen()
				if err != nil {
					if !strings.Contains(err.Error(), "another server") {
						t.Errorf("round %d: %v", round, err)
					}
					listened.Done()
					return
				}
				won.Add(1)
				if n := live.Add(1); n != 1 {
					t.Errorf("round %d: %d servers listen", round, n)
				}
				if round%2 == 0 { // stay until the others have tried; else leave while they do
					listened.Done()
					listened.Wait()
				}
				if err := isAt(path, s, fmt.Sprint("by ", i)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
				live.Add(-1)
				s.Shutdown(canceled())
				if round%2 != 0 {
					listened.Done()
				}
			})
		}
		close(begin)
		ended.Wait()
		if t.Failed() {
			return
		}
		for _, file := range []string{path, path + ".lock"} {
			if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("round %d: %s is left: %v", round, file, err)
			}
		}
	}
	if won := won.Load(); won < 100 {
		t.Errorf("%d listened in 100 rounds", won)
	}
}

// leaveStale leaves a socket as a server does that was killed, and maybe
// its lock file, too.
func leaveStale(t *testing.T, path string, withLock bool) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	if withLock {
		must(t, os.WriteFile(path+".lock", nil, 0o600))
	}
}

// isAt tells whether it is this server that answers at a path.
func isAt(path string, s *server.Server, name string) error {
	mine, err := s.Dial()
	if err != nil {
		return err
	}
	defer mine.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, step := range []struct {
		conn           net.Conn
		request, reply string
	}{
		{mine, "g " + name, "1 Lock Get Success: " + name},
		{c, "i " + name, "1 Lock Is Locked: " + name},
	} {
		if _, err := fmt.Fprintln(step.conn, step.request); err != nil {
			return err
		}
		reply := make([]byte, len(step.reply)+1)
		if n, err := io.ReadFull(step.conn, reply); err != nil || string(reply) != step.reply+"\n" {
			return fmt.Errorf("%s: %q, %v", step.request, reply[:n], err)
		}
	}
	return nil
}
