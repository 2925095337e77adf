package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nylen/lockd/internal/lockfile"
	"github.com/nylen/lockd/internal/session"
)

// header is what a file begins with that we make.
const header = "# Who may do what, a line each: NAME ROLE[:PREFIX] HOW\n" +
	"# HOW: sha256:HEX (of a token), cert (a client certificate of that name), uid:N\n"

// newMode is the mode of a file that we make. The server may be another user than
// whoever makes it, and there are no secrets in it.
const newMode = 0o644

// Add appends a line for who has a token, and makes the file if there is none.
// Everything else in it stays as it is.
func Add(path, name string, role session.Role, prefix, token string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	e := Entry{Name: name, Role: role, Prefix: prefix, Proof: OfToken([]byte(token))}
	return edit(path, true, func(text []byte, _ []Entry) ([]byte, error) {
		if len(text) == 0 {
			text = []byte(header)
		}
		if text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		return append(text, e.String()+"\n"...), nil
	})
}

// Remove takes the lines out that choose returns, given all of them.
func Remove(path string, choose func([]Entry) ([]Entry, error)) error {
	return edit(path, false, func(text []byte, all []Entry) ([]byte, error) {
		gone, err := choose(all)
		if err != nil {
			return nil, err
		}
		without := make(map[int]bool)
		for _, e := range gone {
			without[e.Line] = true
		}
		var rest []byte
		number := 0
		for line := range bytes.Lines(text) {
			if number++; !without[number] {
				rest = append(rest, line...)
			}
		}
		if len(bytes.TrimSpace(rest)) == 0 {
			rest = []byte(header) // an empty file would count for nothing
		}
		return rest, nil
	})
}

// List returns the lines of the file at a path that let somebody in.
func List(path string) ([]Entry, error) {
	text, _, err := read(path)
	if err != nil {
		return nil, err
	}
	return parse(path, text)
}

// editTakes is how long others may take to change the file before we give up.
const editTakes = 10 * time.Second

// edit changes the file at once for all who read it, and one after another for all
// who change it so. Its mode and its owner stay.
func edit(path string, create bool, change func(text []byte, all []Entry) ([]byte, error)) error {
	// Of a link the file that it leads to is changed: a new one in the place of the
	// link would not be what others read.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if info, failed := os.Lstat(path); failed == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("the auth file %s is a link to nothing", path)
	}
	lock, err := acquire(path + ".lock")
	if err != nil {
		return fmt.Errorf("cannot change the auth file %s: its lock file %s.lock: %w", path, path, lockfile.Bare(err))
	}
	defer lock.Remove()

	var text []byte
	var all []Entry
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("the auth file %s is not a regular file", path)
	case err == nil:
		if text, _, err = read(path); err != nil {
			return err
		}
		if len(text) > 0 || !create { // one that was made empty, by touch or install
			if all, err = parse(path, text); err != nil {
				return err
			}
		}
	case !errors.Is(err, fs.ErrNotExist) || !create:
		return fmt.Errorf("cannot read the auth file %s: %w", path, lockfile.Bare(err))
	}
	if text, err = change(text, all); err != nil {
		return err
	}
	if _, err = parse(path, text); err != nil {
		return err
	}
	if err := replace(path, text, info); err != nil {
		return fmt.Errorf("cannot write the auth file %s: %w", path, lockfile.Bare(err))
	}
	return nil
}

// acquire waits for others who change the file.
func acquire(path string) (*lockfile.File, error) {
	if !lockfile.Works {
		return nil, nil
	}
	for until := time.Now().Add(editTakes); ; time.Sleep(10 * time.Millisecond) {
		lock, err := lockfile.Acquire(path, lockfile.Empty)
		if !errors.Is(err, lockfile.ErrLocked) || time.Now().After(until) {
			return lock, err
		}
	}
}

// replace puts a new file in the place of that at a path, of which info tells; nil:
// there is none.
func replace(path string, text []byte, info fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // for nobody else
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(text); err != nil {
		return err
	}
	mode := fs.FileMode(newMode)
	if info != nil {
		mode = info.Mode().Perm()
		if err = keepOwner(f, info); err != nil {
			return fmt.Errorf("cannot keep its owner: %w", lockfile.Bare(err))
		}
	}
	if err = f.Chmod(mode); err != nil && lockfile.Works { // Windows has no such modes
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
