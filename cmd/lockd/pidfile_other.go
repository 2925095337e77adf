//go:build !unix

package main

import "os"

// lockFile does nothing here: a second server finds the port in use.
func lockFile(*os.File) error { return nil }
