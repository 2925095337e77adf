package client

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
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

	// ctx ends with the link, under the mutex, because of the ErrLost that err
	// returns.
	ctx context.Context
	end context.CancelCauseFunc

	slots directory // the sessions; number 0 is the heartbeat's

	heard atomic.Bool // there was a reply since the last look

	mu    sync.Mutex // guards what follows
	wake  sync.Cond  // the writer, when idle
	idle  bool       // the writer waits
	out   []byte     // requests to be written
	cause error      // what ended the link, if not its reading

	free   []*slot   // sessions; the last one freed is the next one used
	rested int       // how many of them, the first ones, have been free since
	since  time.Time // the time that rested is about
	made   int       // how many numbers have been given out, 0 included
	unused []uint32  // those among them that are no sessions now
	full   bool      // the server has refused a session, see addLocked

	timer *time.Timer
	asked bool // the last look found silence and asked
}

const (
	// keptRoom is how much room for requests is kept when they are written.
	keptRoom = 1 << 20

	// Sessions that nobody has used for restTime are ended, except a few, and
	// so many at a time that it delays nobody.
	restTime     = time.Minute
	keptSessions = 64
	endedAtOnce  = 4096
)

func newLink(t transport, old bool, sessions int, period time.Duration) *link {
	k := &link{transport: t, old: old, sessions: sessions, period: max(period, 0), since: time.Now()}
	k.wake.L = &k.mu
	k.ctx, k.end = context.WithCancelCause(context.Background())
	k.addLocked()
	return k
}

// run reads and writes until the connection ends. When the locks have been told
// that they are lost, and before any call is, ended is called with the reason:
// calls may go on with another link then, and shall not find this one.
func (k *link) run(ended func(error)) {
	var writer sync.WaitGroup
	if !k.old {
		writer.Go(k.write)
		k.mu.Lock()
		k.timer = time.AfterFunc(k.interval(), k.look)
		k.mu.Unlock()
	}
	err := k.read()
	k.mu.Lock()
	if k.cause != nil {
		err = k.cause
	}
	k.end(lost(err))
	k.mu.Unlock()
	ended(err)
	k.fail()
	k.transport.close()
	writer.Wait()
}

// protocol is the one that the server speaks.
func (k *link) protocol() int {
	if k.old {
		return 1
	}
	return 2
}

// err returns why the link has ended, an ErrLost, or nil.
func (k *link) err() error {
	if k.ctx.Err() == nil { // which takes no mutex, as Cause does
		return nil
	}
	return context.Cause(k.ctx)
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

// fail tells all calls that the link has ended. Only the goroutine that reads
// calls it: no reply comes in between.
func (k *link) fail() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
	}
	k.wake.Signal()
	for s := range k.slots.all() {
		if s.state.CompareAndSwap(calling, resolved) {
			s.err = k.err()
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
			if k.err() != nil {
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

// interval is between two looks.
func (k *link) interval() time.Duration {
	if k.period == 0 {
		return restTime
	}
	return k.period
}

// look is called by the timer: a server that has said nothing for a period is
// asked to, and given up after another one. It also ends sessions that nobody
// needs any more.
func (k *link) look() {
	heard := k.heard.Swap(false)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.err() != nil:
		return
	case heard:
		k.asked = false
	case k.period == 0:
	case k.asked:
		if k.cause == nil {
			k.cause = fmt.Errorf("%w: no sign of life for %v", ErrTimeout, 2*k.period)
		}
		go k.transport.close() // which may wait for the goroutine of a pump
		return
	default:
		k.asked = true
		if s := k.slots.get(0); s.state.Load() == quiet {
			k.tellLocked(s, ping)
		}
	}
	k.full = false
	k.endRestedLocked()
	k.timer.Reset(k.interval())
}

// endRestedLocked ends sessions that a peak has left behind. What is free is
// used from its end, so those that rest are at its beginning.
func (k *link) endRestedLocked() {
	if time.Since(k.since) < restTime {
		return
	}
	n := min(k.rested-keptSessions, endedAtOnce)
	if n <= 0 {
		k.since, k.rested = time.Now(), len(k.free)
		return
	}
	for _, s := range k.free[:n] {
		k.tellLocked(s, bye)
	}
	k.free = slices.Clone(k.free[n:]) // without the room for more, and what is in there
	k.rested -= n
}

// start takes a session and asks. The error is ErrLost or ErrTooManySessions.
func (k *link) start(v *verb, a arguments, name string) (*slot, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.err(); err != nil {
		return nil, err
	}
	var s *slot
	if n := len(k.free); n > 0 {
		s = k.free[n-1]
		k.free = k.free[:n-1]
		k.rested = min(k.rested, n-1)
	} else if s = k.addLocked(); s == nil {
		return nil, ErrTooManySessions
	}
	k.askLocked(s, v, a, name)
	return s, nil
}

// addLocked makes a session, or returns nil if that would be too many: for us,
// or for the server, which knows best. When it has refused one it is not asked
// for more until the next look, or until one has ended.
func (k *link) addLocked() *slot {
	var number uint32
	switch n := len(k.unused); {
	case k.full:
		return nil
	case n > 0:
		number = k.unused[n-1]
		k.unused = k.unused[:n-1]
	case k.made > k.sessions:
		return nil
	default:
		number = uint32(k.made)
		k.made++
	}
	s := &slot{number: number, done: make(chan struct{}, 1)}
	k.slots.set(number, s)
	return s
}

// dropLocked forgets a session that the server does not know, or not any more.
func (k *link) dropLocked(s *slot) {
	k.slots.set(s.number, nil)
	k.unused = append(k.unused, s.number)
}

// again asks for something else with a session whose last call was answered.
func (k *link) again(s *slot, v *verb, name string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.err(); err != nil {
		return err
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
	s.verb, s.name, s.most = v, name, v.most
	if v.most == 0 {
		s.most = int64(a.n[0])
	}
	s.state.Store(calling)
	k.appendLocked(s, v, a, name)
}

// tellLocked asks for something with a session that is free, and leaves the
// answer to the link.
func (k *link) tellLocked(s *slot, v *verb) {
	k.askLocked(s, v, arguments{}, "")
	s.state.Store(forsaken)
	s.stage = toCall
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
		k.full = true
		k.dropLocked(s)
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
	if k.err() == nil {
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
		if !ok || k.old {
			return notAsked(line)
		}
		s := k.slots.get(number)
		if s == nil {
			return notAsked(line)
		}
		switch s.state.Load() {
		case calling:
			r, err := parseAnswer(rest, s.verb, s.name, s.most)
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
	v, most := s.verb, s.most
	if s.stage == toCancel {
		v, most = cancel, cancel.most
	}
	r, err := parseAnswer(line, v, s.name, most)
	if err != nil {
		return err
	}
	if v == bye && r.err == nil {
		k.full = false
		k.dropLocked(s)
		return nil
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
func parseAnswer(line []byte, v *verb, name string, most int64) (reply, error) {
	if v.waits && hasPrefix(line, canceled) && echoes(line[len(canceled):], name) {
		return reply{err: errWaitedOut}, nil
	}
	if v == takeRate && hasPrefix(line, "0 "+wire.RateLimited) {
		ms, rest, ok := number(line[len("0 "+wire.RateLimited):])
		if !ok || ms > wire.MaxWait || !hasPrefix(rest, wire.RateRetry[1:]) || !echoes(rest[len(wire.RateRetry)-1:], name) {
			return reply{}, notReply(line, v)
		}
		return reply{n: ms, err: errRateLimited}, nil
	}
	return parseReply(line, v, name, most)
}

const canceled = "0 " + wire.GetCanceled

var errRateLimited = errors.New("rate limited")

func notAsked(line []byte) error {
	return fmt.Errorf("%w: nothing was asked, but got %q", ErrProtocol, line[:min(len(line), 200)])
}
