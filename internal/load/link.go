package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// A link is a connection without its socket: it tells what to send and takes
// what comes back.
type link struct {
	asked []asked // a ring of requests that have no reply yet; a power of two
	head  uint32  // the oldest of them
	tail  uint32  // where the next one goes

	turn   uint8  // which of the two requests is next
	number uint64 // of the name, from the first one on to the second
	holds  bool   // the last request sent takes a lock

	// In an open loop:
	index int   // in the worker's schedule
	owed  int64 // requests that are due and not sent
	sent  int64 // requests sent

	in  []byte // the beginning of a reply whose end is not there
	out []byte // requests that the socket did not take
}

// asked is a request that waits for its reply.
type asked struct {
	at      int64  // when it was sent or, in an open loop, due
	number  uint32 // of the name
	turn    uint8
	counted bool // sent within the measured time
}

func newLink(pipeline, index int) *link {
	size := 1
	for size < pipeline+1 { // and the last release
		size *= 2
	}
	return &link{asked: make([]asked, size), index: index}
}

func (l *link) outstanding() int { return int(l.tail - l.head) }

var errEnded = errors.New("lost a connection: the server closed it")

// book is what a worker's links share: what to send, and what came of it.
type book struct {
	run    *run
	names  *namer
	heads  [2][]byte
	tails  [2][]byte
	plan   *schedule // nil in a closed loop
	left   int64     // measured requests to send, if they are counted
	tally  *tally
	got    int64 // replies, measured or not
	open   int   // requests that wait for their reply
	failed error // the first error reply
}

func newBook(r *run, worker, links int) (*book, error) {
	names, err := newNamer(&r.opts, worker)
	if err != nil {
		return nil, err
	}
	b := &book{run: r, names: names, left: 1<<63 - 1, tally: newTally()}
	for i, q := range r.requests {
		b.heads[i], b.tails[i] = []byte(q.head), []byte(q.tail)
		if r.dialect.headLength {
			b.heads[i] = append(strconv.AppendInt(b.heads[i], int64(r.opts.NameSize), 10), "\r\n"...)
		}
	}
	if n := int64(r.opts.Requests); n > 0 {
		w := int64(r.opts.Threads)
		b.left = n / w
		if int64(worker) < n%w {
			b.left++
		}
	}
	if r.opts.Rate > 0 {
		b.plan = newSchedule(r.opts.Rate, worker, r.opts.Threads, links, r.opts.Connections)
	}
	return b, nil
}

// ask appends what a link has to send now.
func (b *book) ask(dst []byte, l *link, now int64) []byte {
	n := int64(b.run.opts.Pipeline - l.outstanding())
	if b.plan == nil {
		if l.outstanding() > 0 {
			return dst // a batch at a time
		}
	} else {
		n = min(n, l.owed)
	}
	counted := now >= b.run.warm
	if counted {
		n = min(n, b.left)
		b.left -= n
	}
	before := len(dst)
	for range n {
		at := now
		if b.plan != nil {
			at = b.plan.of(l.index, l.sent)
			l.owed--
		}
		dst = b.put(dst, l, at, counted)
	}
	if counted {
		b.tally.bytesOut += int64(len(dst) - before)
	}
	return dst
}

func (b *book) put(dst []byte, l *link, at int64, counted bool) []byte {
	if l.turn == 0 {
		l.number = b.names.choose()
	}
	dst = append(dst, b.heads[l.turn]...)
	dst = b.names.append(dst, l.number)
	dst = append(dst, b.tails[l.turn]...)
	l.asked[l.tail&uint32(len(l.asked)-1)] = asked{at, uint32(l.number), l.turn, counted}
	l.tail++
	b.open++
	l.holds = b.run.requests[l.turn].holds
	l.turn ^= 1
	l.sent++
	return dst
}

// farewell is, in the place of a time, what the last release of a link has,
// which is nothing of the load.
const farewell = -1

// finish appends the release of the lock that a link still holds; it is not
// measured.
func (b *book) finish(dst []byte, l *link) []byte {
	if l.holds {
		dst = b.put(dst, l, farewell, false)
	}
	return dst
}

// unsent counts what a link should have sent until the end. Each of these
// requests has waited at least until now.
func (b *book) unsent(l *link, now int64) {
	for n := l.sent; l.owed > 0; n++ {
		l.owed--
		if due := b.plan.of(l.index, n); due >= b.run.warm && due < b.run.end {
			b.tally.unsent++
			b.tally.record(now - due)
		}
	}
}

// lost counts what was not answered at the end, also of the warm-up.
func (b *book) lost(l *link, now int64) {
	for ; l.head != l.tail; l.head++ {
		b.open--
		a := &l.asked[l.head&uint32(len(l.asked)-1)]
		if a.at != farewell {
			b.tally.kinds[unanswered]++
		}
		if a.counted {
			b.tally.record(now - a.at)
		}
	}
}

// take handles what a link received. It keeps what is no whole reply.
func (b *book) take(l *link, data []byte, now int64) error {
	in := data
	if len(l.in) > 0 {
		l.in = append(l.in, data...)
		in = l.in
	}
	d := b.run.dialect
	for {
		reply := line(in)
		if len(reply) == 0 {
			break
		}
		in = in[len(reply):]
		if l.head == l.tail {
			return fmt.Errorf("reply out of step: got %q, but nothing was asked", bytes.TrimSpace(reply))
		}
		a := &l.asked[l.head&uint32(len(l.asked)-1)]
		q := b.run.requests[a.turn]
		kind, ok := d.judge(q, reply, b.names, a.number)
		if !ok {
			// The number's lower bits are all of it, but with New.
			return fmt.Errorf("reply out of step: got %q to %s ...%04x", bytes.TrimSpace(reply), q.verb, uint16(a.number))
		}
		if kind == errorReply && b.failed == nil {
			b.failed = fmt.Errorf("%s: %q", q.verb, bytes.TrimSpace(reply))
		}
		l.head++
		b.got++
		b.open--
		if a.counted {
			t := b.tally
			t.requests++
			t.kinds[kind]++
			t.bytesIn += int64(len(reply))
			t.record(now - a.at)
		}
	}
	if len(in) > maxReply {
		return fmt.Errorf("reply out of step: %d bytes without an end", len(in))
	}
	l.in = append(l.in[:0], in...)
	return nil
}

const maxReply = 64 << 10
