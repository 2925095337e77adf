//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package state

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A server takes no file of another user, and root may look at one, as at that of a
// server under systemd. What would block is neither opened nor shown.
func TestForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := New(path); err != nil {
		t.Fatal(err)
	}
	pipe := path + ".pipe"
	if err := syscall.Mkfifo(pipe, 0o600); err == nil {
		if _, err := Show(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("a pipe is shown: %v", err)
		}
	}
	if err := os.Chown(path, 1234, -1); err != nil {
		t.Skip("cannot give a file away: ", err)
	}
	if _, err := Show(path); err != nil {
		t.Errorf("it is not shown: %v", err)
	}
	if f, _, err := Open(path, nil); err == nil || !strings.Contains(err.Error(), "another user (1234): give it") {
		if f != nil {
			f.Close()
		}
		t.Errorf("it is opened: %v", err)
	}
}
