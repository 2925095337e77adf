package client

import (
	"net"
	"sync"
	"time"
)

// A lineTransport carries lines over a stream: TCP, a unix socket, a pipe.
type lineTransport struct {
	lineReader
	conn net.Conn

	mu sync.Mutex // guards w, should a server reply before it was asked
	w  []byte     // the request being sent; kept for its capacity
}

// glockdBuffer is how many bytes glockd reads at most to find one line.
const glockdBuffer = 4096

func newLineTransport(conn net.Conn, use use) *lineTransport {
	conn = unblocked(conn, use)
	return &lineTransport{lineReader: newLineReader(unencrypted(conn, "tls://"), use), conn: conn}
}

// send sends the request, and with a mark the inspection too, in one write.
//
// glockd makes a new 4096-byte reader for every line, and what that reader
// took from the socket behind its line is lost. So for glockd the request is
// filled up with blanks, which it drops, until the line and its newline are
// 4096 bytes: the reader is full when it has found the line's end, however the
// network cut the bytes up, and the inspection stays in the socket for the
// next reader.
//
// Other servers must not get the blanks: lockd for Node.js takes them for a
// part of the name.
func (t *lineTransport) send(r request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := appendRequest(t.w[:0], r.verb, r.name)
	if r.mark != "" {
		for r.pad && len(b) < glockdBuffer-1 {
			b = append(b, ' ')
		}
		b = append(b, '\n')
		verb, name := marking(r.mark)
		b = appendRequest(b, verb, name)
	}
	b = append(b, '\n')
	t.w = b
	_, err := t.conn.Write(b)
	return err
}

func appendRequest(b []byte, verb, name string) []byte {
	b = append(b, verb...)
	if name != "" {
		b = append(b, ' ')
		b = append(b, name...)
	}
	return b
}

func (t *lineTransport) sendLines(b []byte) error {
	_, err := t.conn.Write(b)
	return err
}

func (t *lineTransport) expireReads(at time.Time) { t.conn.SetReadDeadline(at) }

func (t *lineTransport) close() error { return t.conn.Close() }
