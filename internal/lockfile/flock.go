//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package lockfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Works tells whether there are locks on this system.
const Works = true

// flags: a link may lead to anybody's file, and a pipe must not block.
const flags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func lock(f *os.File) error {
	return exclusive(func() error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) })
}

// exclusive calls flock, and says what its errors mean. It may be interrupted
// where the file system asks others.
func exclusive(flock func() error) error {
	for {
		switch err := flock(); {
		case err == nil:
			return nil
		case err == syscall.EINTR:
		case err == syscall.EWOULDBLOCK:
			return ErrLocked
		case errors.Is(err, errors.ErrUnsupported), err == syscall.EINVAL, err == syscall.ENOLCK:
			return fmt.Errorf("its file system has no locks (flock: %w)", err)
		default:
			return fmt.Errorf("cannot lock it: %w", err)
		}
	}
}

// Owner returns whose a file is, and whether that is somebody else.
func Owner(info fs.FileInfo) (uid int, foreign bool) {
	uid = int(info.Sys().(*syscall.Stat_t).Uid)
	return uid, uid != os.Geteuid()
}
