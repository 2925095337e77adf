//go:build !linux

// Command failover measures what clients of a cluster see of a fail-over and of a move, on
// Linux.
package main

import "fmt"

func main() { fmt.Println("this needs Linux") }
