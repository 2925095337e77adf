package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/lockfile"
)

// expand turns PORT alone into an address on all interfaces.
func expand(addr string) string {
	if !strings.Contains(addr, ":") {
		return ":" + addr
	}
	return addr
}

// checkAddr tells whether an address can be one, [HOST:]PORT.
func checkAddr(addr string) error {
	if strings.HasPrefix(addr, InheritedPrefix) {
		return nil // it is there, or complete would have said so
	}
	_, port, err := net.SplitHostPort(expand(addr))
	if err == nil && port != "" {
		if _, err = net.LookupPort("tcp", port); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%q: want [HOST:]PORT", addr)
}

// openTCP opens a listener at HOST:PORT or PORT, unless it is there.
func (s *Server) openTCP(addr string) (net.Listener, error) {
	if l := s.opts.inherited[addr]; l != nil {
		return inherited{l}, nil
	}
	return listenTCP(addr)
}

// listenTCP opens a listener.
func listenTCP(addr string) (net.Listener, error) {
	// Connections get their keep-alive settings when they are served.
	config := net.ListenConfig{KeepAlive: -1}
	// Linux before 6.10 does not let a socket of Multipath TCP have keep-alive
	// times, and connections would inherit those of the system: two hours.
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", expand(addr))
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", addr, reason(err))
	}
	return l, nil
}

// maxUnixPath is how long the path of a unix socket may be.
const maxUnixPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// listenUnix opens a listener at a path, replacing the socket file of a server
// that is gone.
func (s *Server) listenUnix(path string) (net.Listener, error) {
	if l := s.opts.inherited[path]; l != nil {
		return inherited{l}, nil
	}
	if len(path) > maxUnixPath {
		return nil, fmt.Errorf("cannot listen on %s: a unix socket's path has at most %d bytes", path, maxUnixPath)
	}
	if runtime.GOOS == "linux" && strings.HasPrefix(path, "@") { // no file: the kernel lets one server have it
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, fmt.Errorf("cannot listen on %s: %w", path, reason(err))
		}
		return l, nil
	}
	lock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	l, err := s.replaceSocket(path, lock)
	if err != nil {
		lock.Remove()
		return nil, err
	}
	return l, nil
}

// replaceSocket makes the socket at a path of ours.
func (s *Server) replaceSocket(path string, lock *lockfile.File) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("cannot listen on %s: there is a file that is not a socket", path)
		}
		// Of a server that knows no locks, or whose lock file was removed.
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			c.Close()
			return nil, fmt.Errorf("cannot listen on %s: another server is listening there", path)
		}
		if !isRefused(err) {
			return nil, fmt.Errorf("cannot listen on %s: cannot tell whether another server is: %w", path, reason(err))
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("cannot replace the stale socket %s: %w", path, reason(err))
		}
	}
	l, err := bindUnix(path)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", path, reason(err))
	}
	abs, err := filepath.Abs(path) // for when the process has gone to another folder
	var own os.FileInfo
	if err == nil {
		own, err = os.Lstat(path)
	}
	if err == nil {
		err = os.Chmod(path, s.opts.UnixMode)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("cannot set the mode of %s: %w", path, reason(err))
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	return &unixListener{Listener: l, path: abs, own: own, lock: lock}, nil
}

// lockSocket locks the file beside a socket. A server has it from before it
// looks what is there until its own socket is gone, or else two that look at
// the same time would both find a stale one, and the second to replace it
// would remove what the first has made. It returns nil where there are no
// locks.
func lockSocket(path string) (*lockfile.File, error) {
	if !lockfile.Works {
		return nil, nil
	}
	lock, err := lockfile.Acquire(path+".lock", lockfile.Empty)
	switch {
	case errors.Is(err, lockfile.ErrLocked):
		return nil, fmt.Errorf("cannot listen on %s: another server is listening there, or about to (it has locked %s.lock)", path, path)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: its lock file %s.lock: %w", path, path, err)
	}
	return lock, nil
}

// unixListener removes its socket file, but not the one that another server
// has put in its place.
type unixListener struct {
	net.Listener
	path string
	own  os.FileInfo
	lock *lockfile.File
	once sync.Once
}

// Socket returns the listener that it wraps.
func (l *unixListener) Socket() net.Listener { return l.Listener }

// Close looks for the file while the socket is open: until then no other file
// gets its inode.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(l.own, now) {
			os.Remove(l.path)
		}
	})
	err := l.Listener.Close()
	l.lock.Remove()
	return err
}

// reason strips an error of what the message around it says already.
func reason(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var path *os.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	return err
}
