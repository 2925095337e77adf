package main

import (
	"bufio"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/nylen/lockd/internal/wire"
)

// historyLength is how many lines are kept.
const historyLength = 1000

// A history is the lines that were typed, also by earlier shells. It implements
// term.History.
type history struct {
	lines []string // the latest is the last
	path  string   // of the file to which they are added; empty: none
}

// historyPath returns where people's shells keep it.
func historyPath() (string, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) { // as the specification has it
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		dir = cmp.Or(os.Getenv("LOCALAPPDATA"), filepath.Join(home, ".local", "state"))
	}
	return filepath.Join(dir, "lockd", "history"), nil
}

// openHistory reads a file, and makes it if there is none. In any case it
// returns a history, if only one in memory.
func openHistory(path string) (*history, error) {
	h := new(history)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err != nil {
		return h, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return h, err
	}
	long, err := h.load(f)
	f.Close() // Windows renames over no file that is open
	if err == nil && long {
		err = h.shorten(path)
	}
	if err == nil {
		h.path = path
	}
	return h, err
}

// load reads the file. It tells whether that has become long.
func (h *history) load(f *os.File) (long bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, nil // /dev/null, for those who want none
	}
	if info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return false, err
		}
	}
	// No more than its end is read, whatever it is: a line of 4096 letters is
	// the longest that the editor takes.
	const most = 8 << 20
	if _, err := f.Seek(max(0, info.Size()-most), io.SeekStart); err != nil {
		return false, err
	}
	count := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, most)
	for ; lines.Scan(); count++ {
		h.remember(lines.Text())
	}
	return count > 2*historyLength || info.Size() > most, lines.Err()
}

// shorten writes the file anew, with the latest lines.
func (h *history) shorten(path string) error {
	anew, err := os.CreateTemp(filepath.Dir(path), "history") // mode 0600
	if err != nil {
		return err
	}
	_, err = io.WriteString(anew, strings.Join(h.lines, "\n")+"\n")
	if err = cmp.Or(err, anew.Close()); err == nil {
		err = os.Rename(anew.Name(), path)
	}
	if err != nil {
		os.Remove(anew.Name())
	}
	return err
}

// remember takes a line into the memory. It tells whether it is worth it.
func (h *history) remember(line string) bool {
	if strings.TrimSpace(line) == "" || secret(line) || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return false
	}
	h.lines = append(h.lines, line)
	if len(h.lines) > historyLength {
		h.lines = slices.Delete(h.lines, 0, 1)
	}
	return true
}

// secret tells whether there is a token in a line, perhaps one that was not
// typed quite right, or behind a session's number.
func secret(line string) bool {
	words := strings.Fields(strings.ToLower(line))
	if len(words) > 1 && strings.Trim(words[0], "0123456789") == "" {
		words = words[1:]
	}
	return len(words) > 0 && words[0] == wire.Auth
}

// Add implements term.History. It opens the file each time: another shell may
// have put a shorter one in its place.
func (h *history) Add(line string) {
	if !h.remember(line) || h.path == "" {
		return
	}
	if f, err := os.OpenFile(h.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		io.WriteString(f, line+"\n") // several shells may write: each line at once
		f.Close()
	}
}

// Len implements term.History.
func (h *history) Len() int { return len(h.lines) }

// At implements term.History.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }
