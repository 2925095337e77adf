package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// What stands at the place of the file's next content, a crash's leftover or a link, is
// neither read nor written to.
func TestLeftover(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "state"), filepath.Join(dir, "other")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	await(func(done func(error)) { f.Keep(keyOf(1), 1000, done) })
	f.Close()
	for name, put := range map[string]func() error{
		"a part":  func() error { return os.WriteFile(path+".new", []byte("lockd st"), 0o644) },
		"a whole": func() error { return os.WriteFile(path+".new", []byte((&content{"x", 5, nil}).text()), 0o644) },
		"a link":  func() error { return os.Symlink(other, path+".new") },
	} {
		if err := os.WriteFile(other, []byte("somebody's"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := put(); err != nil {
			t.Logf("%s: %v", name, err) // no links here
			continue
		}
		g, found := mustOpen(t, path, osDisk{}, "one")
		if len(found.Keys) != 1 {
			t.Errorf("%s: %+v", name, found)
		}
		g.Close()
		if _, err := Show(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text, _ := os.ReadFile(other); string(text) != "somebody's" {
			t.Errorf("%s: another file has %q now", name, text)
		}
	}
}

// A file is not open when it is replaced: some systems would refuse.
func TestReplacedClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	d := &faulty{}
	f, _ := mustOpen(t, path, d, "one")
	open := f.file
	d.failsFor(func(op string) error {
		if op == "rename" {
			if _, err := open.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("it is open: %v", err)
			}
			return errors.New("broken")
		}
		return nil
	})
	os.Remove(path) // so that it is written anew
	if err := await(func(done func(error)) { f.Keep(keyOf(1), 1000, done) }); err == nil {
		t.Error("no error")
	}
	d.failsFor(nil)
	if err := await(func(done func(error)) { f.Keep(keyOf(2), 1000, done) }); err != nil {
		t.Error(err)
	}
	d.failsFor(func(string) error { return errors.New("broken") })
	await(func(done func(error)) { f.Keep(keyOf(3), 1000, done) })
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if s, err := Show(path); err != nil || len(s.Keys) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}
