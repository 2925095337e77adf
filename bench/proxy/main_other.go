//go:build !linux

// Command proxy measures what `lockd proxy` costs, on Linux.
package main

import "fmt"

func main() { fmt.Println("this needs Linux") }
