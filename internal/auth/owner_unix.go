//go:build unix

package auth

import (
	"io/fs"
	"os"
	"syscall"
)

// keepOwner gives a file to the user and the group of another one.
func keepOwner(f *os.File, of fs.FileInfo) error {
	own, err := f.Stat()
	if err != nil {
		return err
	}
	is, ok := own.Sys().(*syscall.Stat_t)
	want, also := of.Sys().(*syscall.Stat_t)
	if !ok || !also || is.Uid == want.Uid && is.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
