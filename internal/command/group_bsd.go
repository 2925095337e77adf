//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package command

// parentOf is not known here.
func parentOf(int) (int, bool) { return 0, false }

// members are not known here.
func members(int) (running []int, zombies bool) { return nil, false }
