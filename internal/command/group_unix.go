//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package command

import (
	"slices"
	"syscall"
)

// Left returns the processes of the group that still run, none if nothing does.
// Where they cannot be listed, the group's number, which the first of them has,
// stands for all. Zombies do not run, whoever forgets to reap them.
func (c *Command) Left() []int {
	if syscall.Kill(-c.pid, 0) == syscall.ESRCH {
		return nil
	}
	running, zombies := members(c.pid)
	if len(running) == 0 && !zombies {
		return []int{c.pid}
	}
	slices.Sort(running)
	return running
}
