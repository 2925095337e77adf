package auth

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

func textOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// byName chooses all lines of a name.
func byName(name string) func([]Entry) ([]Entry, error) {
	return func(all []Entry) (gone []Entry, err error) {
		for _, e := range all {
			if e.Name == name {
				gone = append(gone, e)
			}
		}
		return gone, nil
	}
}

// alone fails for files that an edit has left behind.
func alone(t *testing.T, path string) {
	t.Helper()
	found, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(found) != 1 {
		t.Errorf("%v %v", found, err)
	}
}

func TestAdd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	if err := Add(path, "ci", session.RoleLock, "a/", "one"); err != nil {
		t.Fatal(err)
	}
	if got := textOf(t, path); got != header+"ci lock:a/ "+digits("one")+"\n" {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != newMode {
		t.Errorf("%v %v", info.Mode(), err)
	}
	alone(t, path)

	// All else stays, also what lacks its last newline.
	const kept = "# one\r\n\n  b   read\tuid:1   # two"
	write(t, path, kept)
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	if err := Add(path, "ci", session.RoleAdmin, "", "two"); err != nil {
		t.Fatal(err)
	}
	if got := textOf(t, path); got != kept+"\nci admin "+digits("two")+"\n" {
		t.Errorf("%q", got)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != 0o604 {
		t.Errorf("%v %v", info.Mode(), err)
	}

	// What would be wrong is not written.
	before := textOf(t, path)
	for _, err := range []error{
		Add(path, "ci", session.RoleLock, "", "three"), Add(path, "b", session.RoleRead, "x", "three"),
		Add(path, "x", session.RoleLock, "", "two"), Add(path, "a b", session.RoleLock, "", "three"), Add(path, "#", session.RoleLock, "", "three"),
		Add(path, "", session.RoleLock, "", "three"), Add(path, "x", session.RoleLock, "a b", "three"), Add(path, "x", session.RoleLock, "", ""),
	} {
		if err == nil {
			t.Error("it was taken")
		}
	}
	if got := textOf(t, path); got != before {
		t.Errorf("%q", got)
	}
	// Nor is anything written to a file that is wrong already.
	write(t, path, "what\n")
	if err := Add(path, "x", session.RoleLock, "", "three"); err == nil || !strings.HasPrefix(err.Error(), path+":1:1: ") {
		t.Errorf("%v", err)
	}
	if got := textOf(t, path); got != "what\n" {
		t.Errorf("%q", got)
	}
	alone(t, path)
}

// A link stays one, and what it leads to is changed.
func TestEditOfALink(t *testing.T) {
	folder := t.TempDir()
	real, link := filepath.Join(folder, "real"), filepath.Join(folder, "link")
	if err := os.Symlink("real", link); err != nil {
		t.Skip(err)
	}
	if err := Add(link, "a", session.RoleLock, "", "x"); err == nil {
		t.Error("a link to nothing was taken")
	}
	write(t, real, "a lock uid:1\n")
	if err := Add(link, "b", session.RoleLock, "", "x"); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("%v %v", info, err)
	}
	if got := textOf(t, real); got != "a lock uid:1\nb lock "+digits("x")+"\n" {
		t.Errorf("%q", got)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	write(t, path, "# one\na lock uid:1 # two\nb lock uid:2\n\na lock cert\n# three")
	if err := Remove(path, byName("a")); err != nil {
		t.Fatal(err)
	}
	if got := textOf(t, path); got != "# one\nb lock uid:2\n\n# three" {
		t.Errorf("%q", got)
	}
	if err := Remove(path, func([]Entry) ([]Entry, error) { return nil, fmt.Errorf("no") }); err == nil || err.Error() != "no" {
		t.Errorf("%v", err)
	}
	// The last one goes, too: a file that is empty would keep who was let in.
	write(t, path, "b lock uid:2\n\n")
	if err := Remove(path, byName("b")); err != nil {
		t.Fatal(err)
	}
	if all, err := List(path); len(all) != 0 || err != nil {
		t.Errorf("%v %v", all, err)
	}
	alone(t, path)
	if err := Remove(filepath.Join(t.TempDir(), "none"), byName("b")); err == nil {
		t.Error("there was none")
	}
}

// Who changes the file at the same time does so one after another.
func TestEditsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth")
	const n = 20
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := Add(path, fmt.Sprint("n", i), session.RoleLock, "", fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if all, err := List(path); len(all) != n || err != nil {
		t.Errorf("%d lines, %v", len(all), err)
	}
	alone(t, path)
}
