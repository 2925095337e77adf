//go:build !linux

// Command survive is for Linux: there its clients, processes and witness have one clock,
// which counts suspends, and machines of their own.
package main

import "fmt"

func main() { fmt.Println("survive runs on Linux only") }
