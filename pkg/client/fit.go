package client

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"
)

// What a server tells of how long it waits for a client that it cannot reach, a
// Client keeps to from its first lock on: it is lost when the last request that was
// answered was sent too long ago, and asks by itself, so that there is one. That is
// the heartbeat of a mux, with one request at a time.
//
// Who holds nothing has nothing to lose, so it is not asked before that; nor does anybody
// hear of the first lock before it is known. A server that is silent on it shows by the answer to the inspection behind it; one that would lose
// that is not asked at all.
type fits struct {
	due   bool // it holds, or has held, a lock; like asked the reader's own
	asked bool // the server

	known  atomic.Bool   // the server has told
	sent   time.Time     // when the request under way was; who has the turn sets it
	limit  time.Duration // how old the last one that was answered may be; set before known
	period time.Duration // between two requests that the client makes by itself; 0: it makes none. Guarded by the client's mutex
}

// question returns what is asked next, in the turn of what was answered, or nil.
func (c *Client) question() *call {
	switch f := &c.fits; {
	case !f.due || f.asked || c.opts.ReadTimeout <= 0:
		return nil
	case dialect(c.dialect.Load()) == unknown:
		return c.newUnwatched(inspect, rand.Text())
	case dialect(c.dialect.Load()) == readsOne: // glockd
		f.asked = true
		return nil
	default:
		f.asked = true
		question := c.newUnwatched(ask, "")
		question.mark = c.mark()
		return question
	}
}

// fit takes the server's answer.
func (c *Client) fit(line []byte) {
	_, text, ok := number(line)
	told := parseLimits(text)
	if !ok || told.deadPeer == 0 {
		return
	}
	c.dialect.Store(uint32(pongs)) // all that know this know a ping
	c.fits.limit = told.patience(c.opts.ReadTimeout, 0)
	c.watch.setTimeout(c.fits.limit)
	c.fits.known.Store(true)
	c.beatEvery(c.fits.limit / looks)
}

// asks notes that a request is sent. Where the server has told, its answer is due
// when the last one's is too old.
func (f *fits) asks(w *watchdog) {
	f.sent = time.Now()
	if !f.known.Load() {
		w.expect()
	}
}

// answered notes that a request was answered. It tells whether that came so late, such
// as when the process was stopped meanwhile, that another one is to be made at once.
func (f *fits) answered(w *watchdog) (late bool) {
	if !f.known.Load() {
		w.met()
		return false
	}
	w.extend(f.sent)
	return time.Since(f.sent) >= f.limit/looks
}

// goesOn notes that a part of an answer has come. It counts as older than it is, for
// what is on the way, see giveUp of a mux.
func (f *fits) goesOn(w *watchdog) {
	if f.known.Load() {
		w.extend(time.Now().Add(-f.limit / 2))
	} else {
		w.expect()
	}
}

// silence is what ends the client when its watchdog expires. A server that speaks TLS
// says nothing to a short line: it takes that for the beginning of something.
func (c *Client) silence() error {
	d := c.opts.ReadTimeout
	if c.fits.known.Load() {
		d = c.fits.limit
	}
	if t, ok := c.transport.(*lineTransport); ok && t.lastHeard() == 0 && c.target.network == "tcp" && !c.target.secure {
		return &TLSError{fmt.Sprintf("no reply within %v: if the server speaks TLS here, use tls://", d), silentError{d}}
	}
	return silentError{d}
}
