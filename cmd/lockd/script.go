package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/nylen/lockd/internal/wire"
	"github.com/nylen/lockd/pkg/client"
)

// A script's requests are sent as they are, in protocol 1, whatever the server
// has: the replies then are those that scripts for nc know, and the server keeps
// what comes behind a wait until that is over, where in protocol 2 the session
// would be busy. The price is that a verb which the server does not know has no
// reply. So behind a request whose reply may be anything else than one line goes
// another one, whose reply shows the end of the first one's (SendMarked).
//
// Requests are sent ahead, by a goroutine; the other one passes the replies on.
type script struct {
	*shellCmd
	link *link
	out  *bufio.Writer
	sent chan entry // in their order; closed at the end of the script

	sending sync.Mutex // held from before a request is sent until it stands in sent
	window  window
	failed  bool // some line was no request
}

// ahead is how much may be sent ahead. A server takes 64 KiB behind a wait, and
// then ends it.
const ahead = 32 << 10

// An entry is a line of the script.
type entry struct {
	number int
	verb   string
	wrong  string // why it was not sent
	size   int    // in the window

	isMark func(line []byte) bool // nil: the reply is one line
}

// script runs one, and exits.
func (c *shellCmd) script(in io.Reader) {
	conn, err := c.dial(context.Background(), 1, c.ConnectTimeout)
	if err != nil {
		fail(exitUnavailable, c.explain(err, c.ConnectTimeout))
	}
	s := &script{
		shellCmd: c,
		link:     newLink(conn, func(*link) {}),
		out:      bufio.NewWriterSize(stdout, 64<<10),
		sent:     make(chan entry, ahead), // an entry is a byte at least: it is never full
	}
	s.window.changed.L = &s.window.mu
	go s.send(bufio.NewReaderSize(in, 64<<10))
	for e, ok := s.next(); ok; e, ok = s.next() {
		s.pass(e)
		s.window.give(e.size)
	}
	s.flush()
	s.link.close()
	if s.failed {
		exit(exitNoRequest)
	}
	exit(0)
}

// send sends the script.
func (s *script) send(in *bufio.Reader) {
	for number := 1; ; number++ {
		line, err := scriptLine(in)
		if err == io.EOF {
			break
		}
		e := entry{number: number}
		switch request := strings.Trim(line, " \t\r\v\f"); {
		case err == errLongLine:
			e.wrong = fmt.Sprintf("it is longer than %d bytes", longestLine)
		case err != nil:
			e.wrong = "cannot read on: " + err.Error()
		case request == "" || request[0] == '#':
			continue
		default:
			e.verb = string(verbOf(line))
			if e.verb == wire.Hello {
				e.wrong = "a script speaks protocol 1"
			}
		}
		if e.wrong == "" {
			e.size = min(len(line)+len("\nping\n"), ahead)
			if !s.link.Pipelines() {
				e.size = ahead
			}
			s.window.take(e.size)
		}
		if !s.request(e, line) {
			return
		}
		if e.verb == wire.Quit || err != nil && err != errLongLine {
			break
		}
	}
	close(s.sent)
}

// request sends one request. It tells whether the connection stands.
func (s *script) request(e entry, line string) bool {
	s.sending.Lock()
	defer s.sending.Unlock()
	var err error
	if e.wrong == "" {
		if v := s.verbs[e.verb]; v.Old && !v.Lists {
			err = s.link.Send(line)
		} else {
			e.isMark, err = s.link.SendMarked(line)
		}
	}
	if errors.Is(err, client.ErrLineTooLong) {
		e.wrong, err = "it is too long for this server", nil
	}
	s.sent <- e
	return err == nil // else the reader of the connection says why
}

// next returns the next line of the script, if there is one.
func (s *script) next() (e entry, ok bool) {
	select {
	case e, ok = <-s.sent:
		return e, ok
	default:
	}
	s.flush()
	select {
	case e, ok = <-s.sent:
		return e, ok
	case <-s.link.ended:
	}
	s.sending.Lock() // what was sent before the end may have its reply
	defer s.sending.Unlock()
	select {
	case e, ok = <-s.sent:
		return e, ok
	default:
		s.lost("")
		return e, false
	}
}

// pass passes a reply on.
func (s *script) pass(e entry) {
	if e.wrong != "" {
		s.complain(e, e.wrong)
		return
	}
	for lines := 0; ; lines++ {
		p, ok := s.part()
		if !ok && e.verb == wire.Quit && lines > 0 {
			return
		} else if !ok {
			s.lost(fmt.Sprintf(", line %d: no reply", e.number))
		}
		if e.isMark != nil && p.end && e.isMark([]byte(p.text)) {
			if lines == 0 && !s.verbs[e.verb].Silent {
				s.complain(e, "no reply: the server does not know the verb "+plain(e.verb))
			}
			return
		}
		s.out.WriteString(p.text)
		for !p.end {
			if p, ok = s.part(); !ok {
				s.lost(fmt.Sprintf(", line %d: half a reply", e.number))
			}
			s.out.WriteString(p.text)
		}
		s.out.WriteByte('\n')
		if e.isMark == nil {
			return
		}
	}
}

// part returns the next part of a reply. Before it has to wait for it, all that
// has come is printed.
func (s *script) part() (p part, ok bool) {
	select {
	case p, ok = <-s.link.parts:
	default:
		s.flush()
		p, ok = <-s.link.parts
	}
	return p, ok
}

// flush prints what has come. If that cannot be printed, the script goes no
// further.
func (s *script) flush() {
	s.out.Flush()
	if stdout.err != nil {
		exit(exitOutput)
	}
}

func (s *script) complain(e entry, why string) {
	s.flush()
	fmt.Fprintf(stderr, "lockd: line %d: %s\n", e.number, why)
	s.failed = true
}

// lost exits.
func (s *script) lost(where string) {
	s.flush()
	fail(exitUnavailable, fmt.Sprintf("%s: connection lost%s: %v", s.Server, where, plainly(s.link.err, s.ConnectTimeout)))
}

var errLongLine = errors.New("line too long")

// scriptLine returns the next line, without its end. The last one need not have
// one.
func scriptLine(in *bufio.Reader) (string, error) {
	var line []byte
	for long := false; ; {
		piece, err := in.ReadSlice('\n')
		if long = long || len(line)+len(piece) > longestLine; !long {
			line = append(line, piece...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err != nil && (err != io.EOF || len(line) == 0 && !long):
			return "", err
		case long:
			return "", errLongLine
		}
		return string(bytes.TrimRight(line, "\r\n")), nil
	}
}

// verbOf returns a request's first word.
func verbOf(request string) []byte {
	verb, _ := wire.Parse([]byte(request))
	return verb
}

// A window bounds what is on its way.
type window struct {
	mu      sync.Mutex // guards used
	changed sync.Cond
	used    int
}

// take waits for room.
func (w *window) take(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.used > 0 && w.used+n > ahead {
		w.changed.Wait()
	}
	w.used += n
}

func (w *window) give(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
	w.changed.Signal()
}
