package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A pidFile names the process that serves: its number and its port, a line
// each. The file is locked for as long as the process lives, so that one left
// behind by a process that was killed is told from a live one's.
type pidFile struct {
	file *os.File
	path string
}

// lockPidFile opens and locks a pid file. It takes no file that cannot be one:
// the path may be a mistake, and the file is going to be removed.
func lockPidFile(path string) (*pidFile, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // nor is it opened
		return nil, fmt.Errorf("cannot use %s as the pid file: it is not a regular file", path)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot open the pid file: %w", err)
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("the pid file %s belongs to another live process%s: stop that or choose another file", path, owner(path))
	}
	if err := checkPidFile(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot use %s as the pid file: %w", path, err)
	}
	return &pidFile{f, path}, nil
}

// checkPidFile tells whether a file is empty or may be a pid file.
func checkPidFile(f *os.File) error {
	const most = 64
	old, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil && (len(old) == most || strings.Trim(string(old), "0123456789 \t\r\n") != "") {
		err = errors.New("it holds something else")
	}
	return err
}

// owner returns what the pid file says about who has it.
func owner(path string) string {
	var pid int
	if f, err := os.Open(path); err == nil {
		fmt.Fscan(f, &pid)
		f.Close()
	}
	if pid == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d)", pid)
}

func (p *pidFile) write(port int) error {
	text := fmt.Sprintf("%d\n%d\n", os.Getpid(), port)
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	if _, err := p.file.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	return nil
}

// remove removes the file, if it is still this one, and only then unlocks it.
func (p *pidFile) remove() {
	own, err := p.file.Stat()
	if now, err2 := os.Lstat(p.path); err == nil && err2 == nil && os.SameFile(own, now) {
		os.Remove(p.path)
	}
	p.file.Close()
}
