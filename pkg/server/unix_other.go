//go:build !unix

package server

import "net"

func bindUnix(path string) (net.Listener, error) { return net.Listen("unix", path) }

// isRefused: where the reason cannot be told, a socket that cannot be
// connected to is taken for a stale one.
func isRefused(error) bool { return true }
