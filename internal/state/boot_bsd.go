//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package state

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// BootID tells one start of this machine from others, and from other machines'; "" if
// the system does not tell.
func BootID() string {
	if id, err := unix.Sysctl("kern.bootsessionuuid"); err == nil && id != "" { // macOS
		return id
	}
	at, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return ""
	}
	host, _ := unix.Sysctl("kern.hostuuid")
	return strconv.FormatInt(int64(at.Sec), 10) + "." + strconv.FormatInt(int64(at.Usec), 10) + "." + host
}
