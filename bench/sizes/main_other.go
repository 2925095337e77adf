//go:build !linux

package main

import "log"

func main() { log.Fatal("this runs on Linux only") }
