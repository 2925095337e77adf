//go:build !linux

// Command tls measures what TLS costs. It needs Linux: /proc.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "tls: works on Linux only")
	os.Exit(1)
}
