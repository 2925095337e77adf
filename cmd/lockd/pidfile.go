package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"syscall"

	"github.com/nylen/lockd/internal/lockfile"
)

// A pidFile names the process that serves: its number and its port, a line
// each. The file is locked for as long as the process lives, so that one left
// behind by a process that was killed is told from a live one's.
type pidFile struct{ *lockfile.File }

// lockPidFile opens and locks a pid file. It takes no file that cannot be one:
// the path may be a mistake, and the file is going to be removed.
func lockPidFile(path string) (pidFile, error) {
	var pid int64
	f, err := lockfile.Acquire(path, func(f *os.File) (err error) {
		pid, err = readPid(f)
		return err
	})
	switch {
	case errors.Is(err, lockfile.ErrLocked):
		err = fmt.Errorf("the pid file %s is locked by another process%s", path, suspect(path, pid))
	case err != nil:
		err = fmt.Errorf("cannot use %s as the pid file: %w", path, err)
	}
	return pidFile{f}, err
}

// readPid returns the first number of a pid file, 0 if there is none, or tells
// that the file is not one.
func readPid(f io.Reader) (pid int64, err error) {
	const most = 64
	old, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil && (len(old) == most || strings.Trim(string(old), "0123456789 \t\r\n") != "") {
		err = errors.New("it holds something else")
	}
	if _, scan := fmt.Sscan(string(old), &pid); scan != nil {
		pid = 0
	}
	return pid, err
}

// suspect tells who may have locked a pid file. That is not always who wrote
// the number: another process of the same user may have opened what a killed
// server left behind.
func suspect(path string, pid int64) string {
	find := fmt.Sprintf("`fuser %s` or lslocks finds it", path)
	switch {
	case pid == 0:
		return ": " + find
	case !alive(pid):
		return fmt.Sprintf(", and not by %d, whose number is in it and who is gone: %s", pid, find)
	}
	return fmt.Sprintf(" (%d, it says): stop that or choose another file", pid)
}

// alive tells whether there is a process of that number.
func alive(pid int64) bool {
	if pid > math.MaxInt32 { // the kernel would look at half of it
		return false
	}
	p, err := os.FindProcess(int(pid))
	if err != nil {
		return false
	}
	defer p.Release()
	err = p.Signal(syscall.Signal(0))
	return err == nil || errors.Is(err, os.ErrPermission)
}

func (p *pidFile) write(port int) error {
	text := fmt.Sprintf("%d\n%d\n", os.Getpid(), port)
	if err := p.Truncate(0); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	if _, err := p.WriteAt([]byte(text), 0); err != nil {
		return fmt.Errorf("cannot write the pid file: %w", err)
	}
	return nil
}
