// Package kept is what a client knows of the time in which a server keeps its locks
// while it has no connection: until when it may believe in them.
//
// A server lets go what it keeps when it has not heard of its client for long enough.
// The client has to know before that, from its own clock alone: so it counts from
// when it sent the last request that was answered, which was before the server
// executed that, and it gives up a little earlier than the server. From then on
// nothing that comes can change it any more.
//
// The package asks no clock but in Now, moves no bytes and starts no goroutines: who
// has the connection says what was sent and answered, and asks.
package kept

import (
	"sync"
	"time"
)

// The share of the time for which a server keeps that its client counts on: two clocks
// don't run at the same speed, and a server's timers may be early by a tick.
const (
	counted = 19
	whole   = 20
)

// Ask returns for how long a server has to keep, so that its client may be without a
// connection for the time that span says, and has stopped its work for which it needs
// the time stop when that is over.
func Ask(span, stop time.Duration) time.Duration {
	total := span + stop
	keep := total/counted*whole + (total%counted*whole+counted-1)/counted
	return (keep + time.Millisecond - 1).Truncate(time.Millisecond) // which is what is asked in
}

// Span is how long a client may be without a connection that a server keeps for so
// long and who needs the time stop to end its work: negative or 0 if there is none.
func Span(keep, stop time.Duration) time.Duration {
	return keep/whole*counted + keep%whole*counted/whole - stop
}

// A Lease is until when a client may believe in what a server keeps for it. Its
// methods may be called by many goroutines at once. All times are Now's, or those of
// one clock like it.
type Lease struct {
	mu       sync.Mutex // guards what follows
	span     time.Duration
	stop     time.Duration
	sent     time.Duration // when the latest request was that is answered
	deadline time.Duration
	claiming bool // the server has forgotten all, and `claimed` is not answered yet
	over     bool
}

// New returns the lease of a client whose request to be kept was answered, with for how
// long the server keeps. Sent is when it was about to send that request, stop how long
// it takes to end the work under a lock.
func New(keep, stop, sent time.Duration) *Lease {
	l := &Lease{span: Span(keep, stop), stop: stop, sent: sent}
	l.deadline = sent + l.span
	return l
}

// Span is how long the client may be without a connection.
func (l *Lease) Span() time.Duration { return l.span }

// Answered notes that a request is answered that was about to be sent at that time. It
// returns false if that is too late: then the answer is not to be believed.
//
// While there are claims to be made it moves nothing, since the server's time for
// those is not extended by what it hears.
func (l *Lease) Answered(now, sent time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiredLocked(now) {
		return false
	}
	l.sent = max(l.sent, sent)
	l.extendLocked()
	return true
}

// ClaimsOpen notes the answer to a `resume` that was about to be sent at that time: that
// the server has forgotten all and takes claims for so long. It returns false if that
// is too late.
func (l *Lease) ClaimsOpen(now, sent, left time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiredLocked(now) {
		return false
	}
	l.claiming = true
	l.deadline = max(l.deadline, sent+Span(left, l.stop))
	return true
}

// Claimed notes that a `claimed` is answered that was about to be sent at that time.
// From then on each answer counts again. It returns false if that is too late.
func (l *Lease) Claimed(now, sent time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiredLocked(now) {
		return false
	}
	l.claiming = false
	l.sent = max(l.sent, sent)
	l.extendLocked()
	return true
}

func (l *Lease) extendLocked() {
	if !l.claiming {
		l.deadline = max(l.deadline, l.sent+l.span)
	}
}

// Expired tells whether the time is up. Once it is, it stays so.
func (l *Lease) Expired(now time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.expiredLocked(now)
}

func (l *Lease) expiredLocked(now time.Duration) bool {
	l.over = l.over || now >= l.deadline
	return l.over
}

// End has the time be up.
func (l *Lease) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// Left is how much time there is, 0 if none.
func (l *Lease) Left(now time.Duration) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.expiredLocked(now) {
		return 0
	}
	return l.deadline - now
}

// Deadline returns when the time is up, as far as is known now.
func (l *Lease) Deadline() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deadline
}
