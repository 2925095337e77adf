package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
)

// lookup finds a command as a shell would, the current folder included if PATH
// says so.
func lookup(name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil
	}
	return path, err
}

// cannotStart says, as a shell would, why the command does not start, and
// exits. The path is empty if there is none.
func (c *runCmd) cannotStart(path string, err error) {
	code := exitCannotRun
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNotFound
	}
	if e := new(exec.Error); errors.As(err, &e) {
		err = e.Err
	}
	if e := new(fs.PathError); errors.As(err, &e) {
		err = e.Err
	}
	why := err.Error()
	if err == exec.ErrNotFound {
		why = "command not found"
	} else if _, there := os.Stat(path); there == nil && code == exitNotFound {
		why = "its interpreter does not exist"
	}
	fail(code, c.command[0]+": "+why)
}
