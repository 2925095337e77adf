//go:build !linux

// Command http measures what units of rates cost over HTTP. It needs Linux: /proc.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "http: works on Linux only")
	os.Exit(1)
}
