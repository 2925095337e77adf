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
	file  *os.File // to which they are added; nil: none
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
	if h.file, err = h.load(f, path); err != nil {
		f.Close()
	}
	return h, err
}

// load reads the file, and returns it or the one that takes its place: when it
// has become long, it is written anew with the latest lines.
func (h *history) load(f *os.File, path string) (*os.File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return f, nil // /dev/null, for those who want none
	}
	if info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
	}
	// No more than its end is read, whatever it is: a line of 4096 letters is
	// the longest that the editor takes.
	const most = 8 << 20
	if _, err := f.Seek(max(0, info.Size()-most), io.SeekStart); err != nil {
		return nil, err
	}
	count := 0
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, most)
	for ; lines.Scan(); count++ {
		h.remember(lines.Text())
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if count <= 2*historyLength && info.Size() <= most {
		return f, nil
	}
	anew, err := os.CreateTemp(filepath.Dir(path), "history") // mode 0600
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(anew, strings.Join(h.lines, "\n")+"\n")
	f.Close() // Windows renames over no file that is open
	if err = cmp.Or(err, anew.Close()); err == nil {
		err = os.Rename(anew.Name(), path)
	}
	if err != nil {
		os.Remove(anew.Name())
		return nil, err
	}
	return os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
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

// Add implements term.History.
func (h *history) Add(line string) {
	if h.remember(line) && h.file != nil {
		io.WriteString(h.file, line+"\n") // several shells may write: each line at once
	}
}

// Len implements term.History.
func (h *history) Len() int { return len(h.lines) }

// At implements term.History.
func (h *history) At(i int) string { return h.lines[len(h.lines)-1-i] }
