//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

// onResize: the size is asked for before each line.
func onResize(func()) {}

// stop: there is no job control.
func stop() {}
