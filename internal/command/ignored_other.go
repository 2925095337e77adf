//go:build darwin || freebsd || netbsd || openbsd || dragonfly || (linux && (mips || mipsle || mips64 || mips64le))

package command

import (
	"os/signal"
	"syscall"
)

// ignored returns what the caller ignores, of the two signals of which Go
// tells: what nohup and a shell's & are about.
func ignored() map[syscall.Signal]bool {
	return map[syscall.Signal]bool{
		syscall.SIGHUP: signal.Ignored(syscall.SIGHUP),
		syscall.SIGINT: signal.Ignored(syscall.SIGINT),
	}
}

// blocked is not known: what Go unblocks, TERM and INT among it, starts so.
func blocked() (mask, bool) { return 0, false }

func setMask(*mask) (mask, error) { return 0, nil }

// A stage is not made here.
type stage struct{}

func between(*Caller, *Spec) *stage { return nil }

func (*stage) result() error { return nil }
