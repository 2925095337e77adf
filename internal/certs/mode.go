package certs

import (
	"os"
	"runtime"
)

// warnOfMode warns of a key that everybody on the machine can read. It is not
// refused: in a container there may be nobody else, and files often look like that.
func (s *Store) warnOfMode() {
	if runtime.GOOS == "windows" { // which has no such modes
		return
	}
	if info, err := os.Stat(s.names.Key); err == nil && info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
		s.log.Warn("every user of this machine can read the server's key, and so pass for the server: chmod o-r " + s.names.Key)
	}
}
