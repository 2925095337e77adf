package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/nylen/lockd/internal/lockfile"
)

// A pidFile tells which process serves. Others may read it, such as a monitor of
// another user. So what is locked for as long as the process lives, to tell a file
// that a killed one has left from a live one's, is another one beside it, which
// nobody else can open: whoever opens a file can lock it.
type pidFile struct {
	path string
	lock *lockfile.File // nil where there are no locks
	own  fs.FileInfo    // of what we have written; nil: nothing yet
}

// lockPidFile takes the path of a pid file. What is there has to be one: the path
// may be a mistake, and the file is going to be replaced.
func lockPidFile(path string) (*pidFile, error) {
	path, err := filepath.Abs(path) // the process may go to another folder
	if err != nil {
		return nil, fmt.Errorf("cannot use %s as the pid file: %w", path, err)
	}
	p := &pidFile{path: path}
	pid, err := readPid(path)
	if err == nil && lockfile.Works {
		p.lock, err = lockfile.Acquire(path+".lock", lockfile.Empty)
		switch {
		case errors.Is(err, lockfile.ErrLocked):
			return nil, fmt.Errorf("the pid file %s is taken: another process has locked %s.lock%s", path, path, suspect(path, pid))
		case err != nil:
			err = fmt.Errorf("its lock file %s.lock: %w", path, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use %s as the pid file: %w", path, err)
	}
	return p, nil
}

// readPid returns the first number of a pid file, 0 if there is none, or tells
// that the file is not one of ours.
func readPid(path string) (pid int64, err error) {
	info, err := os.Lstat(path) // a pipe must not block, nor a link lead to anybody's file
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil {
		err = lockfile.Usable(info)
	}
	if err != nil {
		return 0, lockfile.Bare(err)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) { // a server that stops has removed it since
		return 0, nil
	}
	if err != nil {
		return 0, lockfile.Bare(err)
	}
	defer f.Close()
	const most = 64
	old, err := io.ReadAll(io.LimitReader(f, most))
	if err == nil && (len(old) == most || strings.Trim(string(old), "0123456789 \t\r\n") != "") {
		err = errors.New("it holds something else")
	}
	if _, scan := fmt.Sscan(string(old), &pid); scan != nil {
		pid = 0
	}
	return pid, lockfile.Bare(err)
}

// suspect tells who may have the lock. That is not always who wrote the number:
// another process of the same user may have opened what a killed server left
// behind.
func suspect(path string, pid int64) string {
	find := fmt.Sprintf("`fuser %s.lock` or lslocks finds it", path)
	switch {
	case pid == 0:
		return ": " + find
	case !alive(pid):
		return fmt.Sprintf(", and not %d, whose number is in the pid file and who is gone: %s", pid, find)
	}
	return fmt.Sprintf(" (%d, says the pid file): stop that or choose another file", pid)
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

// The formats of a pid file.
const (
	pidGlockd = "glockd" // as glockd has it: the process's number and the port, a line each
	pidAlone  = "pid"    // the number alone, for `kill $(cat FILE)`
)

// write makes the file, all of it at once: others may be about to read it.
func (p *pidFile) write(format string, port int) error {
	text := fmt.Sprintf("%d\n", os.Getpid())
	if format == pidGlockd {
		text += fmt.Sprintf("%d\n", port)
	}
	made := p.path + ".new"
	err := os.Remove(made) // of a server that was killed
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = p.place(made, text)
	}
	if err != nil {
		return fmt.Errorf("cannot write the pid file %s: %w", p.path, lockfile.Bare(err))
	}
	return nil
}

func (p *pidFile) place(made, text string) error {
	f, err := os.OpenFile(made, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // less the umask
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		p.own, err = f.Stat()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(made, p.path)
	}
	if err != nil {
		p.own = nil
		os.Remove(made)
	}
	return err
}

// Remove removes the file, unless another one has its place, and then gives up
// the lock: in the other order it might be the next server's.
func (p *pidFile) Remove() {
	if p.isOwn() {
		os.Remove(p.path)
	}
	p.lock.Remove()
}

// isOwn tells whether the file is the one that was written. Its number in the file
// system says that only together with what is in it: a file that is made where
// another one was removed may get the same.
func (p *pidFile) isOwn() bool {
	now, err := os.Lstat(p.path)
	if err != nil || p.own == nil || !os.SameFile(p.own, now) {
		return false
	}
	pid, err := readPid(p.path)
	return err == nil && pid == int64(os.Getpid())
}
