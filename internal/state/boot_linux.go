package state

import (
	"os"
	"strings"
)

// BootID tells one start of this machine from others, and from other machines'; "" if
// the system does not tell.
func BootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}
