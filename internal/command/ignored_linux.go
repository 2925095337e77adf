//go:build !(mips || mipsle || mips64 || mips64le)

package command

import (
	"encoding/binary"
	"os"
	"os/signal"
	"syscall"
	"unsafe"
)

// signals are numbered from 1 to 64.
const signals = 64

// ignored returns what the caller ignores.
//
// The kernel no longer knows, since Go's runtime has set handlers before any
// code of ours. But the runtime keeps what was there before in an array by
// signal (fwdSig in runtime/signal_unix.go), in case that C code had set a
// handler. Nothing that is exported reads it, so it is read from memory, and it
// is found, whatever the linker has done, by a mark that the runtime itself
// puts there: for a signal that it has left alone so far, TTIN, it keeps the
// handler that it finds when asked to handle it. As that handler serves the
// runtime's own one, so that a TTIN in between does no harm.
//
// Where this fails, since the next Go keeps it elsewhere (a test tells) or
// /proc is not there, what Go tells of HUP and INT remains, and what the kernel
// knows of the four that the runtime leaves alone.
func ignored() map[syscall.Signal]bool {
	all := make(map[syscall.Signal]bool)
	var untouched [signals + 1]bool
	for _, s := range []syscall.Signal{syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU, syscall.SIGCONT} {
		var a action
		untouched[s] = true
		all[s] = a.get(s) && a.handler() == ignore
	}
	for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} {
		all[s] = signal.Ignored(s)
	}
	before, ok := beforeGo()
	if !ok {
		return all
	}
	for s := syscall.Signal(1); s <= signals; s++ {
		if !untouched[s] {
			all[s] = before[s] == ignore
		}
	}
	return all
}

// Handlers that are none.
const (
	byDefault = 0
	ignore    = 1
)

// action is the kernel's struct sigaction, of which the handler comes first, and
// of which no system's is larger.
type action [8]uintptr

func (a *action) handler() uintptr { return a[0] }

func (a *action) get(s syscall.Signal) bool { return sigaction(s, nil, a) }
func (a *action) set(s syscall.Signal) bool { return sigaction(s, a, nil) }

func sigaction(s syscall.Signal, a, old *action) bool {
	const setSize = signals / 8
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(s),
		uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(old)), setSize, 0, 0)
	return errno == 0
}

// handlers are by signal, 0 being none.
type handlers [signals + 1]uintptr

// beforeGo returns the handlers that were there before those of Go.
func beforeGo() (found handlers, ok bool) {
	var mine, before action
	if !mine.get(syscall.SIGTERM) || !before.get(syscall.SIGTTIN) || mine.handler() <= ignore || before.handler() > ignore {
		return found, false
	}
	memory, err := variables()
	if err != nil {
		return found, false
	}
	mine.set(syscall.SIGTTIN)
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTTIN)
	signal.Ignore(syscall.SIGTTIN) // has the runtime leave it alone again
	before.set(syscall.SIGTTIN)

	pieces, err := memory.read()
	if err != nil {
		return found, false
	}
	return find(pieces, mine.handler())
}

// find finds the one array of handlers in memory that has the mark for TTIN
// and, else, nothing that it cannot have.
func find(pieces []piece, mark uintptr) (found handlers, ok bool) {
	const size = int(unsafe.Sizeof(mark))
	for _, p := range pieces {
		word := func(i int) uintptr {
			if size == 4 {
				return uintptr(binary.NativeEndian.Uint32(p.data[i:]))
			}
			return uintptr(binary.NativeEndian.Uint64(p.data[i:]))
		}
		for i := 0; i+len(found)*size <= len(p.data); i += size {
			if word(i+int(syscall.SIGTTIN)*size) != mark {
				continue
			}
			var h handlers
			for s := range h {
				h[s] = word(i + s*size)
			}
			if !h.possible() {
				continue
			}
			if ok {
				return handlers{}, false
			}
			found, ok = h, true
		}
	}
	return found, ok
}

// possible tells whether this can have been there when the process started: a
// new program has no handlers, and nobody ignores KILL and STOP. (32 to 34 are
// a C library's.)
func (h *handlers) possible() bool {
	for s, handler := range h {
		switch s := syscall.Signal(s); {
		case s == syscall.SIGTTIN || 32 <= s && s <= 34:
		case handler > ignore,
			handler == ignore && (s == 0 || s == syscall.SIGKILL || s == syscall.SIGSTOP),
			(s == syscall.SIGHUP || s == syscall.SIGINT) && (handler == ignore) != signal.Ignored(s):
			return false
		}
	}
	return true
}
