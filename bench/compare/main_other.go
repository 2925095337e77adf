//go:build !linux

// Command compare measures lockd beside Redis and memcached. It needs Linux:
// taskset, /proc and the bare echo of bench/floor.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "compare: works on Linux only")
	os.Exit(1)
}
