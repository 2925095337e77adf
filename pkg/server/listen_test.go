package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/server"
)

// Addrs tells what the kernel picked, and every address answers.
func TestAddrs(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	opts := server.Options{
		TCP: []string{"127.0.0.1:0", "127.0.0.1:0"}, Unix: []string{path},
		WebSocket: []string{"127.0.0.1:0"}, Admin: "127.0.0.1:0",
	}
	if got := newServer(t, opts).Addrs(); len(got) != 0 {
		t.Errorf("addresses before Listen: %v", got)
	}
	s := listen(t, opts)
	var got []string
	for _, a := range s.Addrs() {
		got = append(got, a.Transport)
		switch a.Transport {
		case "tcp", "unix":
			conn, err := net.Dial(a.Network(), a.String())
			newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
		case "websocket":
			dialWS(t, "ws://"+a.String()).ask("i foo", "0 Lock Not Locked: foo")
		case "admin":
			if status := get(t, a.String(), "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); status != 200 {
				t.Errorf("readyz: status %d", status)
			}
		}
	}
	if want := "tcp tcp unix websocket admin"; strings.Join(got, " ") != want {
		t.Errorf("listens by %v, not %s", got, want)
	}
	// What Addrs returns is the caller's.
	s.Addrs()[0] = server.Addr{}
	if s.Addrs()[0].Transport != "tcp" {
		t.Error("Addrs gives its own slice out")
	}
}

// A port alone means all interfaces.
func TestPortAlone(t *testing.T) {
	t.Parallel()
	s := listen(t, server.Options{TCP: []string{"0"}})
	a := s.Addrs()[0].Addr.(*net.TCPAddr)
	if !a.IP.IsUnspecified() {
		t.Errorf("listens on %s", a)
	}
}

// "If one cannot be opened, none is."
func TestListenFails(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	inUse := taken.Addr().String()
	for _, v := range []struct {
		what string
		opts server.Options
	}{
		{"tcp", server.Options{TCP: []string{inUse}}},
		{"websocket", server.Options{WebSocket: []string{inUse}}},
		{"admin", server.Options{Admin: inUse}},
	} {
		t.Run(v.what, func(t *testing.T) {
			// A port that is free now, to be tried first.
			l, err := net.Listen("tcp", netlab.OwnHost()+":0")
			must(t, err)
			free, path := l.Addr().String(), socketPath(t)
			l.Close()
			opts := v.opts
			opts.TCP = append([]string{free}, opts.TCP...)
			opts.Unix = []string{path}
			s := newServer(t, opts)
			for range 2 {
				err = s.Listen()
				if err == nil || !strings.Contains(err.Error(), inUse) {
					t.Fatalf("Listen: %v", err)
				}
				if c, err := net.Dial("tcp", free); err == nil {
					c.Close()
					t.Error("the first port is open")
				}
				if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("the socket file is there: %v", err)
				}
				if got := s.Addrs(); len(got) != 0 {
					t.Errorf("addresses: %v", got)
				}
			}
			if err := s.ListenAndServe(); err == nil || errors.Is(err, server.ErrServerClosed) {
				t.Errorf("ListenAndServe: %v", err)
			}
		})
	}
}

func TestListenOnNonsense(t *testing.T) {
	t.Parallel()
	for _, opts := range []server.Options{
		{TCP: []string{"127.0.0.1:999999"}},
		{TCP: []string{"127.0.0.1:port"}},
		{TCP: []string{""}, WebSocket: []string{"x:y:z"}},
		{Unix: []string{"/nowhere/at/all"}},
		{Unix: []string{"/tmp/" + strings.Repeat("x", 200)}},
	} {
		s, err := server.New(opts)
		if err == nil {
			err = s.Listen()
			must(t, s.Shutdown(canceled()))
		}
		if option := new(server.OptionError); !errors.As(err, &option) {
			t.Errorf("%v %v %v: %v", opts.TCP, opts.Unix, opts.WebSocket, err)
		}
	}
}

// staleSocket leaves the socket file of a server that is gone.
func staleSocket(t *testing.T) string {
	t.Helper()
	path := socketPath(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	must(t, err)
	l.SetUnlinkOnClose(false)
	must(t, l.Close())
	_, err = os.Lstat(path)
	must(t, err)
	return path
}

// "A socket file that no server answers at any more is replaced, a live one is
// not."
func TestUnixSocketFiles(t *testing.T) {
	t.Parallel()
	t.Run("stale", func(t *testing.T) {
		t.Parallel()
		path := staleSocket(t)
		listen(t, server.Options{Unix: []string{path}})
		conn, err := net.Dial("unix", path)
		newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
	})
	t.Run("live", func(t *testing.T) {
		t.Parallel()
		s := start(t, server.Options{})
		c := s.dial(t, "unix")
		c.ask("g foo", "1 Lock Get Success: foo")
		err := newServer(t, server.Options{Unix: []string{s.unix}}).Listen()
		if err == nil || !strings.Contains(err.Error(), s.unix) {
			t.Errorf("Listen: %v", err)
		}
		s.dial(t, "unix").ask("i foo", "1 Lock Is Locked: foo")
	})
	t.Run("not a socket", func(t *testing.T) {
		t.Parallel()
		path := socketPath(t)
		must(t, os.WriteFile(path, []byte("mine"), 0o600))
		if err := newServer(t, server.Options{Unix: []string{path}}).Listen(); err == nil {
			t.Error("Listen took a file for a socket")
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
			t.Errorf("the file is %q, %v", b, err)
		}
	})
	t.Run("a link", func(t *testing.T) {
		t.Parallel()
		path, target := socketPath(t), staleSocket(t)
		must(t, os.Symlink(target, path))
		if err := newServer(t, server.Options{Unix: []string{path}}).Listen(); err == nil {
			t.Error("Listen replaced a link")
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	})
	t.Run("removed", func(t *testing.T) {
		t.Parallel()
		s := start(t, server.Options{})
		must(t, s.Shutdown(t.Context()))
		if _, err := os.Lstat(s.unix); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket file is left: %v", err)
		}
	})
	t.Run("made anew", func(t *testing.T) {
		t.Parallel()
		first := start(t, server.Options{})
		must(t, os.Remove(first.unix))
		if runtime.GOOS != "windows" {
			if err := newServer(t, server.Options{Unix: []string{first.unix}}).Listen(); err == nil ||
				!strings.Contains(err.Error(), "another server") || !strings.Contains(err.Error(), first.unix+".lock") {
				t.Errorf("Listen while the first server has the lock: %v", err)
			}
			must(t, os.Remove(first.unix+".lock"))
		}
		listen(t, server.Options{Unix: []string{first.unix}})
		must(t, first.Shutdown(t.Context()))
		conn, err := net.Dial("unix", first.unix)
		newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
	})
	t.Run("lock file", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("no lock files there")
		}
		path := socketPath(t)
		s := listen(t, server.Options{Unix: []string{path}})
		info, err := os.Lstat(path + ".lock")
		must(t, err)
		if info.Mode() != 0o600 || info.Size() > 0 {
			t.Errorf("it is %v, %d bytes", info.Mode(), info.Size())
		}
		must(t, s.Shutdown(t.Context()))
		if _, err := os.Lstat(path + ".lock"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is left: %v", err)
		}
		// What is no lock file stays as it is, and so does the socket.
		stale := staleSocket(t)
		for want, make := range map[string]func(lock string) error{
			"there is something in it":  func(lock string) error { return os.WriteFile(lock, []byte("mine"), 0o644) },
			"it is not a regular file":  func(lock string) error { return os.Symlink(socketPath(t), lock) },
			"it belongs to another use": func(lock string) error { return errors.Join(os.WriteFile(lock, nil, 0o600), os.Chown(lock, 1234, -1)) },
		} {
			lock := stale + ".lock"
			if err := make(lock); errors.Is(err, fs.ErrPermission) {
				continue // only root can give files away
			}
			before, err := os.Lstat(lock)
			must(t, err)
			err = newServer(t, server.Options{Unix: []string{stale}}).Listen()
			if err == nil || !strings.Contains(err.Error(), lock) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("Listen: %v, want %q", err, want)
			}
			after, err := os.Lstat(lock)
			must(t, err)
			if after.Mode() != before.Mode() || after.Size() != before.Size() {
				t.Errorf("it was %v, %d bytes, and is %v, %d", before.Mode(), before.Size(), after.Mode(), after.Size())
			}
			_, err = os.Lstat(stale)
			must(t, err)
			must(t, os.Remove(lock))
		}
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS != "linux" {
			t.Skip("abstract names are Linux's")
		}
		name := fmt.Sprintf("@lockd-test-%d", os.Getpid())
		listen(t, server.Options{Unix: []string{name}})
		conn, err := net.Dial("unix", name)
		newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
		if err := newServer(t, server.Options{Unix: []string{name}}).Listen(); err == nil {
			t.Error("Listen took a live socket")
		}
	})
	t.Run("too long", func(t *testing.T) {
		t.Parallel()
		path := socketPath(t)
		for len(path) < 104 { // the shortest that all systems refuse
			path += "x"
		}
		if runtime.GOOS == "linux" {
			listen(t, server.Options{Unix: []string{path[:103]}})
			path += "xxxx"
		}
		err := newServer(t, server.Options{Unix: []string{path}}).Listen()
		if err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("Listen: %v", err)
		}
	})
	t.Run("left when a later one fails", func(t *testing.T) {
		t.Parallel()
		taken := start(t, server.Options{}).unix
		path := socketPath(t)
		if err := newServer(t, server.Options{Unix: []string{path, taken}}).Listen(); err == nil {
			t.Error("Listen took a live socket")
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the first socket file is left: %v", err)
		}
	})
}

// "UnixMode is the mode of the socket files; 0 means 0660", whatever the
// process's umask says.
// A socket's files go at the end, wherever the process is by then.
func TestUnixSocketByRelativePath(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	t.Chdir(dir)
	s := listen(t, server.Options{Unix: []string{"s"}})
	t.Chdir(elsewhere)
	s.Shutdown(canceled())
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestUnixMode(t *testing.T) {
	t.Parallel()
	for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o660, 0o600: 0o600, 0o666: 0o666, 0o777: 0o777} {
		paths := []string{socketPath(t), staleSocket(t)}
		listen(t, server.Options{Unix: paths, UnixMode: mode})
		for _, path := range paths {
			info, err := os.Lstat(path)
			must(t, err)
			if info.Mode() != fs.ModeSocket|want {
				t.Errorf("UnixMode %#o: the file is %v", mode, info.Mode())
			}
		}
	}
}
