//go:build !unix

package server

// openFiles returns how many connections there may be: where the system sets
// no limit on open files, what the directory of sessions has room for.
func openFiles(bool) int { return maxConnections }
