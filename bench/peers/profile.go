package main

import (
	"os"
	"runtime/pprof"
)

// startProfile profiles this process if that was asked for, until the function
// that it returns is called.
func startProfile() func() {
	if *profile == "" {
		return func() {}
	}
	f, err := os.Create(*profile)
	if err != nil {
		return func() {}
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		f.Close()
		return func() {}
	}
	return func() {
		pprof.StopCPUProfile()
		f.Close()
	}
}
