package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// A generator makes the requests of a worker's connections, and accounts for
// the replies.
type generator struct {
	run    *run
	names  *namer
	heads  [2][]byte
	tails  [2][]byte
	plan   *schedule // nil in a closed loop
	left   int64     // measured requests to send, if they are counted
	tally  *tally
	got    int64 // replies and lost short connections, measured or not
	open   int   // requests that wait for their reply
	failed error // the first error reply
}

func newGenerator(r *run, worker, connections int) (*generator, error) {
	names, err := newNamer(&r.opts, worker)
	if err != nil {
		return nil, err
	}
	g := &generator{run: r, names: names, left: 1<<63 - 1, tally: newTally()}
	for i, q := range r.requests {
		g.heads[i], g.tails[i] = []byte(q.head), []byte(q.tail)
		if r.dialect.headLength {
			g.heads[i] = append(strconv.AppendInt(g.heads[i], int64(r.opts.NameSize), 10), "\r\n"...)
		}
		if r.target.URL != nil {
			g.tails[i] = nil // a message has an end of its own
			g.heads[i] = append(frameHeader(len(g.heads[i])+r.opts.NameSize), g.heads[i]...)
		}
	}
	if n := int64(r.opts.Requests); n > 0 {
		w := int64(r.opts.Threads)
		g.left = n / w
		if int64(worker) < n%w {
			g.left++
		}
	}
	if r.opts.Rate > 0 {
		g.plan = newSchedule(r.opts.Rate, worker, r.opts.Threads, connections, r.opts.Connections)
	}
	return g, nil
}

// ask appends what a connection has to send now.
func (g *generator) ask(dst []byte, p *pipeline, now int64) []byte {
	n := int64(g.run.opts.Pipeline - p.outstanding())
	if g.plan == nil {
		if p.outstanding() > 0 {
			return dst // a batch at a time
		}
	} else {
		n = min(n, p.owed)
	}
	counted := now >= g.run.warm
	if counted {
		n = min(n, g.left)
		g.left -= n
	}
	before := len(dst)
	for range n {
		at := now
		if g.plan != nil {
			at = g.plan.of(p.index, p.sent)
			p.owed--
		}
		dst = g.put(dst, p, at, counted)
	}
	if counted {
		g.tally.bytesOut += int64(len(dst) - before)
	}
	return dst
}

func (g *generator) put(dst []byte, p *pipeline, at int64, counted bool) []byte {
	if p.turn == 0 {
		p.number = g.names.choose()
	}
	dst = append(dst, g.heads[p.turn]...)
	dst = g.names.append(dst, p.number)
	dst = append(dst, g.tails[p.turn]...)
	p.asked[p.tail&uint32(len(p.asked)-1)] = asked{at, uint32(p.number), p.turn, counted}
	p.tail++
	g.open++
	if !g.run.opts.Short { // which ends with the first one's reply
		p.holds = g.run.requests[p.turn].holds
		p.turn ^= 1
	}
	p.sent++
	return dst
}

// farewell is, in the place of a time, what the last release of a connection has,
// which is nothing of the load.
const farewell = -1

// finish appends the release of the lock that a connection still holds; it is not
// measured.
func (g *generator) finish(dst []byte, p *pipeline) []byte {
	if p.holds {
		dst = g.put(dst, p, farewell, false)
	}
	return dst
}

// unsent counts what a connection should have sent until the end. Each of these
// requests has waited at least until now.
func (g *generator) unsent(p *pipeline, now int64) {
	for n := p.sent; p.owed > 0; n++ {
		p.owed--
		if due := g.plan.of(p.index, n); due >= g.run.warm && due < g.run.end {
			g.tally.unsent++
			g.tally.record(now - due)
		}
	}
}

// lost counts what was not answered at the end, also of the warm-up.
func (g *generator) lost(p *pipeline, now int64) {
	for ; p.head != p.tail; p.head++ {
		g.open--
		a := &p.asked[p.head&uint32(len(p.asked)-1)]
		if a.at != farewell {
			g.tally.kinds[unanswered]++
		}
		if a.counted {
			g.tally.record(now - a.at)
		}
	}
}

// cut counts a short connection that ended without its reply.
func (g *generator) cut(p *pipeline) {
	if p.asked[p.head&uint32(len(p.asked)-1)].counted {
		g.tally.kinds[lostConnection]++
	}
	p.head++
	g.got++
	g.open--
}

// take handles what a connection received. It keeps what is no whole reply.
func (g *generator) take(p *pipeline, data []byte, now int64) error {
	in := data
	if len(p.in) > 0 {
		p.in = append(p.in, data...)
		in = p.in
	}
	d := g.run.dialect
	for {
		reply := line(in)
		size := len(reply)
		if g.run.target.URL != nil {
			var err error
			if reply, size, err = frame(in); err != nil {
				return err
			}
		}
		if size == 0 {
			break
		}
		in = in[size:]
		if p.head == p.tail {
			return fmt.Errorf("reply out of step: got %q, but nothing was asked", bytes.TrimSpace(reply))
		}
		a := &p.asked[p.head&uint32(len(p.asked)-1)]
		q := g.run.requests[a.turn]
		kind, ok := tooManyConnections, true
		if !g.run.opts.Short || !hasPrefix(reply, d.full) {
			kind, ok = d.judge(q, reply, g.names, a.number)
		}
		if !ok {
			if err := d.denies(reply); err != nil {
				return err
			}
			// The number's lower bits are all of it, but with New.
			return fmt.Errorf("reply out of step: got %q to %s ...%04x", bytes.TrimSpace(reply), q.verb, uint16(a.number))
		}
		if kind == errorReply && g.failed == nil {
			g.failed = fmt.Errorf("%s: %q", q.verb, bytes.TrimSpace(reply))
		}
		p.head++
		g.got++
		g.open--
		if a.counted {
			t := g.tally
			t.requests++
			t.kinds[kind]++
			t.bytesIn += int64(size)
			t.record(now - a.at)
		}
	}
	if len(in) > maxReply {
		return fmt.Errorf("reply out of step: %d bytes without an end", len(in))
	}
	p.in = append(p.in[:0], in...)
	return nil
}

const maxReply = 64 << 10

var errEnded = errors.New("lost a connection: the server closed it")
