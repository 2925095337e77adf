package conn

import (
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/nylen/lockd/internal/session"
)

// A process is one that has connected to a unix socket. Its numbers are the
// kernel's, as it connected, and cost one system call; its program's name would
// take as long as a third of all else about a short connection, so it is asked
// for when somebody wants to see it.
//
// By then the number may be another process's. That has begun after the
// connection was made, which tells the two apart. What a process that has passed
// its connection on to a child does, or one that runs another program since,
// nobody can tell; it is who is there, mostly.
type process struct {
	pid     int32 // 0: it is in another namespace of numbers
	uid     uint32
	made    time.Duration          // when the connection was, by the clock of begun
	program atomic.Pointer[string] // nil: nobody has asked
}

// begun is when this clock began.
var begun = time.Now()

func newProcess(pid int32, uid uint32) *process {
	return &process{pid: max(0, pid), uid: uid, made: time.Since(begun)}
}

// PID implements session.Process.
func (p *process) PID() int { return int(p.pid) }

// UID implements session.Process.
func (p *process) UID() uint32 { return p.uid }

// Program implements session.Process.
func (p *process) Program() string {
	if known := p.program.Load(); known != nil {
		return *known
	}
	var known string
	if p.pid != 0 {
		name, age, ok := program(int(p.pid))
		if ok && age+ageSlack >= time.Since(begun)-p.made {
			known = printable(name)
		}
	}
	p.program.Store(&known)
	return known
}

// ageSlack is how exact the system tells when a process began: a hundredth of a
// second.
const ageSlack = 20 * time.Millisecond

// printable replaces what may not stand in a log or a line of a list: a process
// chooses its name.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
}

// appendProcess appends what is known of a process to a log line's attributes.
func appendProcess(attrs []any, p session.Process) []any {
	if p == nil {
		return attrs
	}
	if pid := p.PID(); pid != 0 {
		attrs = append(attrs, "pid", pid)
	}
	attrs = append(attrs, "uid", p.UID())
	if program := p.Program(); program != "" {
		attrs = append(attrs, "program", program)
	}
	return attrs
}
