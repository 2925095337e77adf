package client

import (
	"bytes"
	"fmt"
	"sync"
)

// The lines of a long reply, on their way from the goroutine that reads to the
// caller, who takes them as they come. The reader never waits for a caller that
// is slow, since others wait for what comes behind. So what has come and was not
// taken is kept, up to a bound.
type lines struct {
	room int                // how many bytes are kept
	pass func([]byte) error // takes a line; nil: the caller takes them all when the last one is here
	some chan struct{}      // has a value when there may be something to take; nil without pass

	mu      sync.Mutex // guards what follows
	chunks  [][]byte   // whole lines with their ends, not yet taken
	size    int        // of all chunks; also of what was dropped
	dropped bool       // nobody takes them
}

// chunkRoom is the size of a chunk: of one line, if that is longer.
const chunkRoom = 32 << 10

func newLines(room int, pass func([]byte) error) *lines {
	l := &lines{room: room, pass: pass}
	if pass != nil {
		l.some = make(chan struct{}, 1)
	}
	return l
}

// add keeps a line. If the bound does not allow it, nothing is kept any more, and
// add returns false.
func (l *lines) add(line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(line) + 1
	if n > l.room-l.size {
		l.dropLocked()
		l.size = l.room
		l.wake()
		return false
	}
	l.size += n
	if l.dropped {
		return true
	}
	last := len(l.chunks) - 1
	if last < 0 || cap(l.chunks[last])-len(l.chunks[last]) < n {
		// The first one is small, for most lists are.
		room := max(n, chunkRoom)
		if last < 0 {
			room = max(n, 512)
		}
		l.chunks = append(l.chunks, make([]byte, 0, room))
		last++
	}
	l.chunks[last] = append(append(l.chunks[last], line...), '\n')
	l.wake()
	return true
}

func (l *lines) wake() {
	select {
	case l.some <- struct{}{}:
	default: // it has a value, or nobody waits
	}
}

// drop forgets what was not taken, and all that will come.
func (l *lines) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropLocked()
}

func (l *lines) dropLocked() { l.chunks, l.dropped = nil, true }

// clear forgets what was not taken: all of it is going to come again.
func (l *lines) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.chunks, l.size, l.dropped = nil, 0, false
}

func tooLong(room int) error { return fmt.Errorf("%w: more than %d bytes", ErrReplyTooLong, room) }

// take returns the lines that are here, in the order in which they came, and
// keeps them no longer.
func (l *lines) take() ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dropped {
		return nil, tooLong(l.room)
	}
	chunks := l.chunks
	l.chunks, l.size = nil, 0
	return chunks, nil
}

// passOn passes on the lines that are here, and stops at the first error.
func (l *lines) passOn(pass func([]byte) error) error {
	chunks, err := l.take()
	if err != nil {
		return err
	}
	for _, chunk := range chunks {
		for line := range bytes.Lines(chunk) {
			if err := pass(line[:len(line)-1]); err != nil {
				return err
			}
		}
	}
	return nil
}
