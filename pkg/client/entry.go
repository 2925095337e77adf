package client

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// An Entry is one line of what the server knows about a name: somebody who holds
// its lock, somebody who waits for it, or a rate. Look and List return them.
type Entry struct {
	Name string
	Kind Kind

	// State is what the entry is of the lock, or how the rate is.
	State State

	// Since is for how long it has been so. Of a rate it is when all units will
	// be open.
	Since time.Duration

	// Token is the fencing token of whoever holds an exclusive lock, and 0 for all
	// others.
	Token uint64

	// Count is, of a shared lock, how many hold it; of a wait for one, the limit
	// that it asked for; and of a rate, how many units are open. It is 0 for an
	// exclusive lock.
	Count int

	// Addr is the client's address: IP:PORT, or unix:N for the Nth that came over
	// a unix socket. Behind a # follows the session, if it is one of many on a
	// connection, as those of a Locker are. Kick takes it. A rate has none.
	Addr string

	// Registered is the name under which the client registered, or its address
	// again. It may not be the only one of that name.
	Registered string

	// More are further fields, as the server sent them. If the client came over a
	// unix socket, its process may be one of them, see Process.
	More []string
}

// A Kind is what a name stands for. The three know nothing of each other: there
// may be an exclusive lock, a shared lock and a rate of one name. A newer server
// may know others.
type Kind string

const (
	KindExclusive Kind = wire.Exclusive
	KindShared    Kind = wire.Shared
	KindRate      Kind = wire.Rate
)

// A State is what an Entry says about a lock or a rate. A newer server may know
// others.
type State string

const (
	StateHeld    State = wire.Held    // by a client that is connected
	StateKept    State = wire.Away    // by one that has no connection now, and may come back
	StateWaits   State = wire.Waits   // in the queue
	StateLimited State = wire.Limited // no unit of a rate is open
	StateOpen    State = wire.Open    // some are
)

// A Process is what the system said about the other end of a unix socket.
type Process struct {
	PID     int // 0 if the server cannot see the process
	UID     int
	Program string // empty if the server could not tell
}

// Process returns which process the client is, if the server tells: for clients
// that came over a unix socket, on systems that know.
func (e Entry) Process() (p Process, ok bool) {
	for _, field := range e.More {
		if p, ok = parseProcess(field); ok {
			break
		}
	}
	return p, ok
}

// parseProcess reads `pid=N uid=N program=NAME`, of which all but the uid may be
// left out.
func parseProcess(field string) (p Process, ok bool) {
	number := func(key string, to *int) bool {
		word, rest, _ := strings.Cut(field, " ")
		digits, is := strings.CutPrefix(word, key)
		n, err := strconv.ParseUint(digits, 10, 32)
		if !is || err != nil {
			return false
		}
		*to, field = int(n), rest
		return true
	}
	number("pid=", &p.PID)
	if !number("uid=", &p.UID) {
		return Process{}, false
	}
	p.Program = strings.TrimPrefix(field, "program=")
	if plain, err := strconv.Unquote(p.Program); err == nil {
		p.Program = plain
	}
	return p, true
}

// isTabbed tells whether a line of protocol 1 is one of a look, or of losses. The lines that end
// or refuse it have no tab: those of the server have none, and names cannot.
func isTabbed(line []byte) bool { return bytes.IndexByte(line, '\t') >= 0 }

// parseEntry reads a line. The error is a ReplyError if it cannot.
func parseEntry(line string) (Entry, error) {
	const least = 5 // fields: a rate is nobody's
	fields := strings.Split(line, "\t")
	if len(fields) < least {
		return Entry{}, &ReplyError{Reply: line}
	}
	e := Entry{Name: fields[0], Kind: Kind(fields[1]), State: State(fields[2])}
	ms, err := strconv.ParseUint(fields[3], 10, 64)
	if err != nil {
		return Entry{}, &ReplyError{Reply: line}
	}
	e.Since = time.Duration(min(ms, uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
	n, err := strconv.ParseUint(fields[4], 10, 64)
	if err != nil {
		return Entry{}, &ReplyError{Reply: line}
	}
	if e.Kind == KindExclusive {
		e.Token = n
	} else {
		e.Count = int(min(n, math.MaxInt))
	}
	rest := fields[least:]
	for _, to := range []*string{&e.Addr, &e.Registered} {
		if len(rest) > 0 {
			*to, rest = rest[0], rest[1:]
		}
	}
	if len(rest) > 0 {
		e.More = rest
	}
	return e, nil
}
