//go:build !linux && !darwin && !freebsd && !netbsd && !openbsd && !dragonfly

package state

// BootID tells one start of this machine from others: this system is not asked, so each
// start counts as one of the machine.
func BootID() string { return "" }
