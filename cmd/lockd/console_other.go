//go:build !windows

package main

// interpretEscapes: these terminals always do.
func interpretEscapes() {}
