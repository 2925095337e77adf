//go:build unix

package auth

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// Root changes a server's file: it stays the server's.
func TestOwnerStays(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("takes root, to give files away")
	}
	path := filepath.Join(t.TempDir(), "auth")
	write(t, path, "a lock uid:1\n")
	if err := os.Chown(path, 4711, 4712); err != nil {
		t.Skip(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Add(path, "b", session.RoleLock, "", "x"); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Uid != 4711 || st.Gid != 4712 || info.Mode() != 0o640 {
		t.Errorf("%d %d %v", st.Uid, st.Gid, info.Mode())
	}
}
