//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import "os"

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// terminalSize returns how many columns and rows a terminal has: a guess.
func terminalSize(*os.File) (columns, rows int) { return 80, 24 }

// inForeground tells whether this process is, among those that share a terminal.
func inForeground(*os.File) bool { return true }
