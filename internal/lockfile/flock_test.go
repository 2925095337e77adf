//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package lockfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestOthersCannotLockIt: whoever may open a file may lock it, and keep us
// from it.
func TestOthersCannotLockIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, found := filepath.Join(dir, "made"), filepath.Join(dir, "found")
	must(t, os.WriteFile(found, nil, 0o600))
	must(t, os.Chmod(found, 0o666))
	for _, path := range []string{made, found} {
		f, err := Acquire(path, anything)
		must(t, err)
		defer f.Remove()
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("%s: mode %v", path, info.Mode())
		}
		if _, err := Acquire(path, anything); err != ErrLocked {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestRefusesTheFilesOfOthers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, nil, 0o666))
	if err := os.Chown(path, 1234, -1); err != nil {
		t.Skip("cannot give a file away: ", err)
	}
	if _, err := Acquire(path, anything); err == nil || !strings.Contains(err.Error(), "another user (1234)") {
		t.Error(err)
	}
}

// TestPipe: one that was put there after the look does not block.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|flags, 0o600)
	must(t, err)
	f.Close()
	if _, err := Acquire(path, anything); err == nil || err.Error() != "it is not a regular file" {
		t.Error(err)
	}
}

func TestWhatFlockSays(t *testing.T) {
	t.Parallel()
	interrupted := 3
	err := exclusive(func() error {
		if interrupted--; interrupted > 0 {
			return syscall.EINTR
		}
		return nil
	})
	if err != nil || interrupted != 0 {
		t.Errorf("interrupted: %v", err)
	}
	for errno, want := range map[syscall.Errno]string{
		syscall.EWOULDBLOCK: ErrLocked.Error(),
		syscall.ENOTSUP:     "has no locks",
		syscall.ENOSYS:      "has no locks",
		syscall.EINVAL:      "has no locks",
		syscall.ENOLCK:      "has no locks",
		syscall.EIO:         "cannot lock it: ",
	} {
		err := exclusive(func() error { return errno })
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, ErrLocked) != (errno == syscall.EWOULDBLOCK) {
			t.Errorf("%v: %v, want %q", errno, err, want)
		}
	}
}
