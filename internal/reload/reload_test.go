package reload

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A dir has a file that a test's Files read.
type dir struct {
	*Files
	got string // what was last used
	log bytes.Buffer
}

func open(t *testing.T, path string) *dir {
	d := &dir{}
	f, err := Open("thing", []string{path}, slog.New(slog.NewTextHandler(&d.log, nil)), func() error {
		b, err := os.ReadFile(path)
		if err == nil && strings.HasPrefix(string(b), "bad") {
			err = errors.New("it is bad")
		}
		if err == nil {
			d.got = string(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	d.Files = f
	return d
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *dir) want(t *testing.T, text string) {
	t.Helper()
	if d.mu.Lock(); d.got != text {
		t.Errorf("used %q, want %q", d.got, text)
	}
	d.mu.Unlock()
}

// TestInPlace also has a change that leaves size and time as they were.
func TestInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	d := open(t, path)
	d.want(t, "one")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "two")
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	d.want(t, "two")
}

func TestRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	d := open(t, path)
	write(t, path+".new", "two")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	d.Check()
	d.want(t, "two")
}

// TestSymlink is how Kubernetes changes a mounted secret: f -> ..data/f, and
// ..data -> a directory, which is another one at once.
func TestSymlink(t *testing.T) {
	at := t.TempDir()
	for _, name := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(at, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(at, name, "f"), name)
	}
	data := filepath.Join(at, "..data")
	if err := os.Symlink("1", data); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(at, "f")
	if err := os.Symlink(filepath.Join("..data", "f"), path); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	d.want(t, "1")
	if err := os.Symlink("2", data+"_tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(data+"_tmp", data); err != nil {
		t.Fatal(err)
	}
	d.Check()
	d.want(t, "2")
}

// TestBroken: what cannot be used changes nothing, and is said once, until it
// changes.
func TestBroken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	d := open(t, path)
	said := func(n int) {
		t.Helper()
		d.mu.Lock()
		defer d.mu.Unlock()
		if got := strings.Count(d.log.String(), "cannot use"); got != n {
			t.Errorf("said %d times, want %d:\n%s", got, n, &d.log)
		}
	}
	write(t, path, "bad")
	for range 3 {
		if d.Check() == nil {
			t.Error("no error")
		}
	}
	d.want(t, "one")
	said(1)
	write(t, path, "bad, too")
	d.Check()
	said(2)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d.Check() == nil {
			t.Error("no error")
		}
	}
	said(3)
	write(t, path, "one")
	if err := d.Check(); err != nil {
		t.Error(err)
	}
	d.want(t, "one")
	said(3)
}

// TestByItself: nobody has to ask.
func TestByItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	used := make(chan struct{}, 16)
	f, err := Open("thing", []string{path}, slog.New(slog.DiscardHandler), func() error { used <- struct{}{}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	<-used
	write(t, path, "two")
	<-used
}

// What is written in place in several steps counts when it is whole, or goes on for
// long.
func TestHalfOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	d := open(t, path)
	steps, waits := 0, 0
	d.mu.Lock()
	d.wait = func(time.Duration) {
		if waits++; waits <= steps {
			write(t, path, strings.Repeat("x", 1+waits))
		}
	}
	d.mu.Unlock()
	for _, c := range []struct{ steps, want int }{{0, 1}, {1, 2}, {9, 10}, {1000, 1 + moments}} {
		d.mu.Lock()
		steps, waits = c.steps, 0
		write(t, path, "x")
		d.mu.Unlock()
		if err := d.Check(); err != nil {
			t.Error(err)
		}
		d.want(t, strings.Repeat("x", c.want))
		write(t, path, "one")
		d.mu.Lock()
		steps = 0
		d.mu.Unlock()
		d.Check()
	}
}

// A pipe is no file: nobody waits for who writes.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write(t, path, "one")
	d := open(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfifo", path).CombinedOutput(); err != nil {
		t.Skipf("no mkfifo: %v %s", err, out)
	}
	if err := d.Check(); !errors.Is(err, ErrNotRegular) {
		t.Errorf("got %v", err)
	}
	d.want(t, "one")
}
