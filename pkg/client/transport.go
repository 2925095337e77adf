package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxReplyLine bounds a line of a reply, and with it what a server can make
// the client store for one line. Names are bounded by the server's limit on
// request lines, so honest lines are far shorter.
const maxReplyLine = 1 << 20

// A transport moves requests and reply lines. One goroutine sends, one reads;
// close may be called by any and ends both.
type transport interface {
	// send sends a request. If it has an end mark, the inspection of a lock of
	// that name follows it at once, whose answer shows where the reply ends.
	send(verb, name, mark string) error

	// readLine returns the next line that is not empty, without its end. It is
	// good until the next call.
	readLine() ([]byte, error)

	// needsProbe tells that an inspection has to be answered before send can
	// be called with an end mark; probed says that readLine just returned the
	// answer of one.
	needsProbe() bool
	probed()

	// expireReads makes readLine fail at the given time.
	expireReads(time.Time)

	close() error
}

// A lineReader cuts a stream into lines.
type lineReader struct {
	r    *bufio.Reader
	long []byte // a line that did not fit into r's buffer
	crlf bool   // whether the last line ended in \r\n
}

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
func newLineReader(r io.Reader) lineReader {
	return lineReader{r: bufio.NewReaderSize(r, 4096)}
}
