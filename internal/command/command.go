// Package command runs the one command of lockd run, so that it cannot tell,
// nor can who started lockd, that lockd is between them.
//
//   - It starts with the signals that lockd was started with: what the caller
//     ignores or blocks, it does (caller_unix.go, ignored_linux.go).
//   - It leads a process group of its own, so that what it starts can be ended
//     with it when the lock is lost (process_unix.go, group_linux.go). Signals
//     to lockd are passed on to that group.
//   - It has the terminal when it asks for it, and gives it back
//     (terminal_unix.go). Ctrl-Z stops lockd with it, and Ctrl-C that ends it
//     ends whatever waits for lockd, too (interrupt_unix.go).
//   - What its end leaves behind in a container, whose process 1 lockd may be,
//     is reaped.
//
// Invariant: one goroutine makes all calls, and Poll is the only place in the
// process that waits for children. A program runs one command in its life,
// since all this is about the state of the whole process.
//
// The package knows nothing of locks: when to end the command, and what to say,
// is for the caller. Where there are no process groups and signals, as on
// Windows, a command is a process and nothing more.
package command

import "strconv"

// Exit codes as shells have them.
const (
	exitUnknown = 126
	exitSignal  = 128 // plus the signal's number
)

// A Spec says what to run, and who is told of what goes wrong meanwhile.
type Spec struct {
	Path string
	Args []string // the program's name is the first
	Env  []string
	Warn func(text string) // must not wait
}

// A SignalError tells that the command could not be signalled, most likely
// since it is another user's by now, as what sudo runs.
type SignalError struct {
	Signal string
	Group  int // of processes, by the number of its first
	Err    error
}

func (e *SignalError) Error() string {
	return "cannot send " + e.Signal + " to the command (process " + strconv.Itoa(e.Group) + "): " + e.Err.Error()
}

func (e *SignalError) Unwrap() error { return e.Err }
