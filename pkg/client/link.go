package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A link is one connection that speaks protocol 2, with the sessions of many
// goroutines. Requests are appended to one buffer, which a goroutine of the
// link's own writes; another one reads, and hands each reply to the slot that
// waits for it. So however many goroutines call, a system call moves what all
// of them have to say.
//
// A link to an old server carries nothing. It tells by its end that the server
// has gone and may be another one next time.
type link struct {
	transport transport
	old       bool          // the server speaks protocol 1 only
	sessions  int           // how many there may be, number 0 not included
	period    time.Duration // between two looks whether the server is there; 0: none

	// ctx ends with the link, because of its error.
	ctx context.Context
	end context.CancelCauseFunc

	// slots are the sessions by number; number 0 is the heartbeat's. A longer
	// list replaces one that is full.
	slots atomic.Pointer[[]*slot]

	heard atomic.Bool // there was a reply since the last look

	mu    sync.Mutex // guards what follows
	wake  sync.Cond  // the writer, when idle
	idle  bool       // the writer waits
	out   []byte     // requests to be written
	free  []*slot    // the last one freed is the next one used
	err   error      // why the link has ended; an ErrLost
	cause error      // what ended it, if not its reading
	timer *time.Timer
	asked bool // the last look found silence and asked
}

// keptRoom is how much room for requests is kept when they are written.
const keptRoom = 1 << 20

func newLink(t transport, old bool, sessions int, period time.Duration) *link {
	k := &link{transport: t, old: old, sessions: sessions, period: max(period, 0)}
	k.wake.L = &k.mu
	k.ctx, k.end = context.WithCancelCause(context.Background())
	k.slots.Store(&[]*slot{{done: make(chan struct{}, 1)}})
	return k
}

// run reads and writes until the connection ends, and returns why. Before any
// caller hears of it, ended is called.
func (k *link) run(ended func(error)) error {
	var writer sync.WaitGroup
	if !k.old {
		writer.Go(k.write)
		k.mu.Lock()
		if k.period > 0 {
			k.timer = time.AfterFunc(k.period, k.look)
		}
		k.mu.Unlock()
	}
	err := k.read()
	k.mu.Lock()
	if k.cause != nil {
		err = k.cause
	}
	k.mu.Unlock()
	ended(err)
	k.fail(err)
	k.transport.close()
	writer.Wait()
	return err
}

// close ends the link because of cause.
func (k *link) close(cause error) {
	k.mu.Lock()
	if k.cause == nil {
		k.cause = cause
	}
	k.mu.Unlock()
	k.transport.close()
}

// fail tells everybody that the link has ended. Only the goroutine that reads
// calls it: no reply comes in between.
func (k *link) fail(cause error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = fmt.Errorf("%w: %w", ErrLost, cause)
	if k.timer != nil {
		k.timer.Stop()
	}
	k.wake.Signal()
	k.end(k.err)
	for _, s := range *k.slots.Load() {
		if s.state.CompareAndSwap(calling, resolved) {
			s.err = k.err
			s.done <- struct{}{}
		}
	}
}

// write writes the requests. When there are none, it waits.
func (k *link) write() {
	var b []byte
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		for len(k.out) == 0 {
			if k.err != nil {
				return
			}
			k.idle = true
			k.wake.Wait()
			k.idle = false
			if len(k.out) > 0 {
				// Those that are about to ask, too, shall come along.
				k.mu.Unlock()
				runtime.Gosched()
				k.mu.Lock()
			}
		}
		if cap(b) > keptRoom {
			b = nil
		}
		b, k.out = k.out, b[:0]
		k.mu.Unlock()
		err := k.transport.sendLines(b)
		k.mu.Lock()
		if err != nil {
			if k.cause == nil {
				k.cause = err
			}
			// The server's last word may still be on its way, see grace.
			k.transport.expireReads(time.Now().Add(grace))
			return
		}
	}
}

// look is called by the timer: a server that has said nothing for a period is
// asked to, and given up after another one.
func (k *link) look() {
	heard := k.heard.Swap(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.err != nil:
		return
	case heard:
		k.asked = false
	case k.asked:
		if k.cause == nil {
			k.cause = fmt.Errorf("%w: no sign of life for %v", ErrTimeout, 2*k.period)
		}
		go k.transport.close() // which may wait for the goroutine of a pump
		return
	default:
		k.asked = true
		if s := (*k.slots.Load())[0]; s.state.Load() == quiet {
			k.askLocked(s, ping, arguments{}, "")
			s.state.Store(forsaken)
			s.stage = toCall
		}
	}
	k.timer.Reset(k.period)
}

// start takes a session and asks. The error is ErrLost or ErrTooManySessions.
func (k *link) start(v *verb, a arguments, name string) (*slot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	var s *slot
	if n := len(k.free); n > 0 {
		s = k.free[n-1]
		k.free = k.free[:n-1]
	} else if s = k.addLocked(); s == nil {
		return nil, ErrTooManySessions
	}
	k.askLocked(s, v, a, name)
	return s, nil
}

// addLocked makes a session, or returns nil if that would be too many.
func (k *link) addLocked() *slot {
	slots := *k.slots.Load()
	if len(slots) > k.sessions {
		return nil
	}
	s := &slot{number: uint32(len(slots)), done: make(chan struct{}, 1)}
	// Nobody looks behind the end of the list that they have.
	slots = append(slots, s)
	k.slots.Store(&slots)
	return s
}

// again asks for something else with a session whose last call was answered.
func (k *link) again(s *slot, v *verb, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return k.err
	}
	k.askLocked(s, v, arguments{}, name)
	return nil
}

// arguments are the numbers in front of a request's name.
type arguments struct {
	n [3]uint64
	k int
}

func (k *link) askLocked(s *slot, v *verb, a arguments, name string) {
	s.verb, s.name = v, name
	s.state.Store(calling)
	k.appendLocked(s, v, a, name)
}

func (k *link) appendLocked(s *slot, v *verb, a arguments, name string) {
	b := append(strconv.AppendUint(k.out, uint64(s.number), 10), ' ')
	b = append(b, v.word...)
	for _, n := range a.n[:a.k] {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	if name != "" {
		b = append(b, ' ')
		b = append(b, name...)
	}
	k.out = append(b, '\n')
	if k.idle {
		k.idle = false
		k.wake.Signal()
	}
}

// put gives a session back that holds nothing.
func (k *link) put(s *slot) {
	k.mu.Lock()
	k.putLocked(s)
	k.mu.Unlock()
}

func (k *link) putLocked(s *slot) {
	refused := s.err == ErrTooManySessions
	s.state.Store(quiet)
	s.verb, s.name, s.err, s.granted = nil, "", nil, false
	switch {
	case s.number == 0:
	case refused:
		// The server does not know it. Those that it knows come first.
		k.free = append(k.free, nil)
		copy(k.free[1:], k.free)
		k.free[0] = s
	default:
		k.free = append(k.free, s)
	}
}

// wait waits for the answer. If it returns an error, which is the context's,
// the session is gone: the link ends the wait on the server, and releases what
// it was granted all the same.
func (k *link) wait(ctx context.Context, s *slot) error {
	if ctx.Done() == nil {
		<-s.done
		return nil
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	if k.forsake(s) {
		return ctx.Err()
	}
	<-s.done // it was answered at the same moment
	if s.err == nil && s.verb.undo != nil {
		k.undo(s)
		return ctx.Err()
	}
	return nil
}

// forsake leaves a call to the link, unless it is answered.
func (k *link) forsake(s *slot) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !s.state.CompareAndSwap(calling, forsaken) {
		return false
	}
	s.stage = toCall
	if s.verb.waits {
		k.appendLocked(s, cancel, arguments{}, "")
	}
	return true
}

// undo releases what a session holds and nobody wants.
func (k *link) undo(s *slot) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		k.undoLocked(s)
	}
}

func (k *link) undoLocked(s *slot) {
	k.askLocked(s, s.verb.undo, arguments{}, s.name)
	s.state.Store(forsaken)
	s.stage = toRelease
}

// read hands out the replies.
func (k *link) read() error {
	for {
		line, err := k.transport.readLine()
		if err != nil {
			return err
		}
		if !k.heard.Load() {
			k.heard.Store(true)
		}
		number, rest, ok := number(line)
		slots := *k.slots.Load()
		if !ok || k.old || number >= int64(len(slots)) {
			return notAsked(line)
		}
		s := slots[number]
		switch s.state.Load() {
		case calling:
			r, err := parseAnswer(rest, s.verb, s.name)
			if err != nil {
				return err
			}
			if s.state.CompareAndSwap(calling, resolved) {
				s.n, s.err = r.n, r.err
				s.done <- struct{}{}
				continue
			}
			fallthrough
		case forsaken:
			if err := k.settle(s, rest); err != nil {
				return err
			}
		default:
			return notAsked(line)
		}
	}
}

// settle takes a reply to a session whose caller has gone.
func (k *link) settle(s *slot, line []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := s.verb
	if s.stage == toCancel {
		v = cancel
	}
	r, err := parseAnswer(line, v, s.name)
	if err != nil {
		return err
	}
	s.err = r.err
	if s.stage == toCall {
		s.granted = r.err == nil && v.undo != nil
		if v.waits {
			s.stage = toCancel
			return nil
		}
	}
	if s.granted {
		s.granted = false
		k.undoLocked(s)
		return nil
	}
	k.putLocked(s)
	return nil
}

// parseAnswer is parseReply, and knows two replies more. One has a number in
// its text: of a rate that is used up, n is when to try again, in
// milliseconds. The other one comes when the wait was canceled, be it by the
// server because it thinks that the client is leaving.
func parseAnswer(line []byte, v *verb, name string) (reply, error) {
	if v.waits && hasPrefix(line, canceled) && echoes(line[len(canceled):], name) {
		return reply{err: errWaitedOut}, nil
	}
	if v == takeRate && hasPrefix(line, "0 "+wire.RateLimited) {
		ms, rest, ok := number(line[len("0 "+wire.RateLimited):])
		if !ok || !hasPrefix(rest, wire.RateRetry[1:]) || !echoes(rest[len(wire.RateRetry)-1:], name) {
			return reply{}, notReply(line, v)
		}
		return reply{n: ms, err: errRateLimited}, nil
	}
	return parseReply(line, v, name)
}

const canceled = "0 " + wire.GetCanceled

var errRateLimited = errors.New("rate limited")

func notAsked(line []byte) error {
	return fmt.Errorf("%w: nothing was asked, but got %q", ErrProtocol, line[:min(len(line), 200)])
}
