//go:build !linux

// Command cluster measures what a request costs in a cluster, on Linux.
package main

import "fmt"

func main() { fmt.Println("this needs Linux") }
