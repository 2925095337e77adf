//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import "os"

// stopSelf does nothing: no shell would continue the process.
func stopSelf() {}

func whenContinued() (continued <-chan os.Signal, forget func()) { return nil, func() {} }
