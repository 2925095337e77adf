//go:build !linux

// Command floor is the bare echo, the floor that bench/compare measures lockd
// against. It is made of epoll, which is Linux's.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "floor: works on Linux only")
	os.Exit(1)
}
