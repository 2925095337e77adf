package session

import (
	"net/netip"
	"strconv"

	"github.com/nylen/lockd/internal/shard"
)

// An Address stands for a client in replies: IP:PORT, or a name where there is
// no such thing.
type Address struct {
	IP        netip.AddrPort
	Name      string
	Transport string  // by which the client has come, for those who look
	Process   Process // at the other end of a unix socket; nil: nobody knows
	Cert      string  // the name in the certificate that the client has shown within TLS; "": it has shown none
	Asks      bool    // it has come to where clients are asked who they are
	Within    bool    // it is a part of the server's own process
	Local     bool    // the client is on this machine: it came over a unix socket, or from a loopback address
}

// A Process is one that has connected to a unix socket, as the system knows it.
// Any goroutine may ask.
type Process interface {
	// PID is its number; 0: it cannot be seen from here, as from within a
	// container.
	PID() int
	// UID is the user's number that it had when it connected.
	UID() uint32
	// Program is the name of the program that it runs, without control characters; "" when
	// the process is gone, or cannot be seen. The first call asks the system.
	Program() string
}

// AppendProcess appends what is known of a process, such as
//
//	pid=4711 uid=1000 program=backup
//
// with the program quoted where it would not be one word.
func AppendProcess(out []byte, p Process) []byte {
	if pid := p.PID(); pid != 0 {
		out = append(strconv.AppendInt(append(out, "pid="...), int64(pid), 10), ' ')
	}
	out = strconv.AppendUint(append(out, "uid="...), uint64(p.UID()), 10)
	if program := p.Program(); program != "" {
		out = appendWord(append(out, " program="...), program)
	}
	return out
}

// appendWord appends a text, quoted where it is not one word.
func appendWord(out []byte, text string) []byte {
	for _, r := range text {
		if r <= ' ' || r == '"' || r == '\\' || !strconv.IsPrint(r) {
			return strconv.AppendQuote(out, text)
		}
	}
	return append(out, text...)
}

// label is an address as text.
type label struct {
	text    string
	process Process
	cert    string
	moved   *move // nil: it is of the connection that the session began with
}

// A move is to another connection.
type move struct {
	ip        netip.AddrPort // if the address is one
	transport string
	since     shard.Moment
}
