package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// maxReplyLine bounds a line of a reply, and with it what a server can make
// the client store for one line. Names are bounded by the server's limit on
// request lines, so honest lines are far shorter.
const maxReplyLine = 1 << 20

// grace is how long the reading goes on when writing has failed: the server's
// last line, or a better error, may still be on its way.
const grace = time.Second

// A transport moves requests and reply lines. One goroutine reads; all the rest
// may be called by any.
type transport interface {
	// send sends a request, without waiting for the server to take it.
	send(request) error

	// sendLines sends whole lines of protocol 2. On a transport made for a
	// mux it may wait for the server; one goroutine calls it.
	sendLines([]byte) error

	// readLine returns the next line that is not empty, without its end. It is
	// good until the next call. endedCRLF tells whether its end was \r\n.
	readLine() ([]byte, error)
	endedCRLF() bool

	// readPart is readLine for lines of any length: what does not fit into the
	// buffer comes in parts, of which end tells the last one.
	readPart() (part []byte, end bool, err error)

	// lastHeard changes whenever the server is heard. silence is how long ago
	// that was.
	lastHeard() int64
	silence() time.Duration

	// expireReads makes readLine fail at the given time.
	expireReads(time.Time)

	// close ends the connection, and readLine with it.
	close() error
}

// A request is what goes onto the wire at once.
type request struct {
	verb, name string // name is empty or follows a blank

	// mark, if not empty, has the inspection of a lock of that name follow
	// the request at once, or a ping if it is pongMark. Its answer shows where the
	// request's reply ends.
	mark string

	// pad says that the server is one that loses what follows a request.
	pad bool
}

// A dialect is what a server does with a request right behind another one.
type dialect uint32

const (
	unknown  dialect = iota
	readsAll         // lockd, lockd for Node.js: it answers both
	readsOne         // glockd: it loses the second, see lineTransport.send
	pongs            // lockd that lets this client inspect some locks only, or none: it answers a ping
)

// pongMark is the mark of those who may not inspect any lock. A ping anybody may
// send, and no line of a list looks like its answer. It is not for all, since old
// servers do not know it.
const pongMark = "pong"

// marking is the request that marks the end of another one's reply.
func marking(mark string) (verb, name string) {
	if mark == pongMark {
		return ping.word, ""
	}
	return inspect.word, mark
}

// dialectOf tells the servers apart by the answer to the inspection of a lock
// that is free, since none of them says what it is: glockd alone ends that line
// with \r\n. (Of a lock that the asking client holds itself, it does not.) One that
// refuses is lockd.
func dialectOf(endedCRLF bool, refused error) dialect {
	switch {
	case refused != nil:
		return pongs
	case endedCRLF:
		return readsOne
	}
	return readsAll
}

// A lineReader cuts a stream into lines.
type lineReader struct {
	r *bufio.Reader
	*arrivals
	long []byte // a line that did not fit into r's buffer
	crlf bool   // whether the last line ended in \r\n

	midway bool // readPart has returned the beginning of a line, and not its end
}

func (l *lineReader) endedCRLF() bool { return l.crlf }

func (l *lineReader) readLine() ([]byte, error) {
	for {
		line, err := l.r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			line, err = l.readLong(line)
		}
		if err != nil {
			return nil, err // half a line is not a reply
		}
		line = line[:len(line)-1]
		l.crlf = len(line) > 0 && line[len(line)-1] == '\r'
		if l.crlf {
			line = line[:len(line)-1]
		}
		// No reply has an empty line in it. Over WebSocket one stands for an
		// empty message or for the end of one.
		if len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lineReader) readPart() (part []byte, end bool, err error) {
	for {
		part, err = l.r.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			l.midway = true
			return part, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		part = bytes.TrimSuffix(part[:len(part)-1], []byte{'\r'})
		if len(part) > 0 || l.midway {
			l.midway = false
			return part, true, nil
		}
	}
}

func (l *lineReader) readLong(begin []byte) ([]byte, error) {
	l.long = append(l.long[:0], begin...)
	for {
		more, err := l.r.ReadSlice('\n')
		if len(l.long)+len(more) > maxReplyLine {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", ErrProtocol, maxReplyLine)
		}
		l.long = append(l.long, more...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			line := l.long
			if cap(l.long) > 64<<10 {
				l.long = nil // do not keep a rare giant for the connection's life
			}
			return line, err
		}
	}
}

// newLineReader reads lines from r.
func newLineReader(r io.Reader, use use) lineReader {
	a := &arrivals{from: r, begun: time.Now()}
	return lineReader{r: bufio.NewReaderSize(a, int(use)), arrivals: a}
}

// arrivals note when something came: at each read of many lines, which costs
// less than to do so for each line.
type arrivals struct {
	from  io.Reader
	begun time.Time
	last  atomic.Int64 // nanoseconds since then
}

func (a *arrivals) Read(p []byte) (int, error) {
	n, err := a.from.Read(p)
	if n > 0 {
		// Some clocks stand still between two reads.
		a.last.Store(max(int64(time.Since(a.begun)), a.last.Load()+1))
	}
	return n, err
}

func (a *arrivals) lastHeard() int64 { return a.last.Load() }

func (a *arrivals) silence() time.Duration {
	return max(time.Since(a.begun)-time.Duration(a.last.Load()), 0)
}

// A use is what a connection is for, and with it how much is read at once.
type use int

const (
	forClient use = 4 << 10  // one request at a time
	forMux    use = 64 << 10 // those of many goroutines; a goroutine of its own writes
)

// room is how much a pump holds for it.
func (u use) room() int {
	if u == forMux {
		return muxRoom
	}
	return pumpRoom
}
