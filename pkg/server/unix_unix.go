//go:build unix

package server

import (
	"errors"
	"net"
	"sync"
	"syscall"
)

// umask guards the process's file mode mask while bindUnix changes it.
var umask sync.Mutex

// bindUnix makes a socket file that nobody but its owner can connect to until
// its mode is set.
func bindUnix(path string) (net.Listener, error) {
	umask.Lock()
	defer umask.Unlock()
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	return net.Listen("unix", path)
}

func isRefused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
