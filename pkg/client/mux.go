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

// A mux is a multiplexed connection: it speaks protocol 2, with the sessions of
// many goroutines. Requests are appended to one buffer, which a goroutine of the
// mux's own writes; another one reads, and hands each reply to the session that
// waits for it. So however many goroutines call, a system call moves what all
// of them have to say.
//
// A mux to an old server carries nothing. It tells by its end that the server
// has gone and may be another one next time.
//
// One that the server keeps (see keeping) outlives its connection: it goes on over the
// next one, and only when that cannot be had in time does it end. It is down
// meanwhile.
type mux struct {
	old         bool     // the server speaks protocol 1 only
	notices     bool     // the server tells what was not asked, such as that one lock is lost
	keeping     *keeping // nil: the mux ends with its connection
	missing     []error  // what the options want and the server does not give
	maxSessions int      // how many there may be, number 0 not included
	opts        *Options
	to          target // whom it is connected to; changed by the goroutine that reads alone
	name        string // what is registered; may be empty
	maxLine     int
	timeout     time.Duration // how old the last request that was answered may be; 0: as old as it is

	// ctx ends with the mux, under the mutex, because of the ErrLost that err
	// returns.
	ctx context.Context
	end context.CancelCauseFunc

	retired chan struct{} // closes when its server grants nothing any more

	// Of a node of a cluster, where the Locker goes by the map.
	reads   bool                  // it tells that there is a newer one
	newMap  func()                // has the Locker ask for it
	rereads atomic.Bool           // it is about to
	of      *owner                // who it is connected to for what that serves; nil: anybody
	secure  bool                  // it is connected within TLS
	atlas   atomic.Pointer[atlas] // the latest map that it has told; nil: none

	sessions sessionTable // the sessions; number 0 is the heartbeat's
	watch    watchdog     // of what the heartbeat asks; it calls with none of its mutexes held

	mu        sync.Mutex // guards what follows
	transport transport
	down      bool      // there is no connection, and requests wait in their sessions
	leaving   bool      // the server was told that this is the end
	wake      sync.Cond // the writer, when idle
	idle      bool      // the writer waits
	out       []byte    // requests to be written
	cause     error     // what ended the connection, if not its reading

	free   []*session // sessions; the last one freed is the next one used
	rested int        // how many of them, the first ones, have been free since
	since  time.Time  // the time that rested is about
	made   int        // how many numbers have been given out, 0 included
	unused []uint32   // those among them that are no sessions now
	full   bool       // the server has refused a session, see addLocked

	timer *time.Timer
	asked time.Time // when the heartbeat asked last
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

// newMux returns a mux to a server that has told its limits, and has answered what it
// was asked at a time.
func newMux(t transport, old bool, o *LockerOptions, told limits, asked time.Time) *mux {
	m := &mux{
		transport: t, old: old, maxSessions: o.Sessions, opts: &o.Options, name: o.Name, maxLine: o.MaxLine,
		timeout: told.patience(o.ReadTimeout, o.StopTime), since: time.Now(), asked: asked, retired: make(chan struct{}),
	}
	m.wake.L = &m.mu
	m.ctx, m.end = context.WithCancelCause(context.Background())
	m.watch.timeout, m.watch.expired = m.timeout, m.giveUp
	first := m.addLocked()
	if m.name != "" && !old {
		m.registerLocked(first, "") // for all sessions; nobody waits for the answer
	}
	return m
}

// run reads and writes until the mux ends: with its connection, or when it cannot
// come back. When the locks have been told that they are lost, and before any call is,
// ended is called with the reason: calls may go on with another mux then, and shall
// not find this one.
func (m *mux) run(ended func(error)) {
	var writer sync.WaitGroup
	t := m.transport
	if !m.old {
		m.mu.Lock()
		m.timer = time.AfterFunc(m.interval(), m.look)
		m.watch.extend(m.asked)
		m.mu.Unlock()
		writer.Go(func() { m.write(t) })
	}
	err := m.read(t)
	for m.keeping != nil && m.err() == nil {
		cause := m.reason(err)
		m.suspend(t, cause)
		writer.Wait() // so nothing more is said over the old connection
		if t = m.comeBack(cause); t == nil {
			err = context.Cause(m.ctx)
			break
		}
		writer.Go(func() { m.write(t) })
		err = m.read(t)
	}
	err = m.reason(err)
	m.mu.Lock()
	m.endLocked(err)
	m.mu.Unlock()
	ended(err)
	m.fail()
	if m.leaving && t != nil {
		hearOut(t)
	}
	m.transport.close()
	writer.Wait()
}

// reason returns what ended the connection, or what reading came to.
func (m *mux) reason(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cause != nil {
		return m.cause
	}
	return err
}

// protocol is the one that the server speaks.
func (m *mux) protocol() int {
	if m.old {
		return 1
	}
	return 2
}

// err returns why the mux has ended, an ErrLost, or nil.
func (m *mux) err() error {
	if m.ctx.Err() == nil { // which takes no mutex, as Cause does
		return nil
	}
	return context.Cause(m.ctx)
}

// retire notes that the server grants nothing new: it is about to end.
func (m *mux) retire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.retireLocked()
}

func (m *mux) retireLocked() {
	if !m.isRetired() {
		close(m.retired)
	}
}

func (m *mux) isRetired() bool {
	select {
	case <-m.retired:
		return true
	default:
		return false
	}
}

// close ends the mux because of cause. Its locks are lost at once: to close a
// connection may take a while.
func (m *mux) close(cause error) {
	m.mu.Lock()
	if m.cause == nil {
		m.cause = cause
	}
	m.endLocked(m.cause)
	t := m.transport
	m.mu.Unlock()
	t.close()
}

// endLocked ends the mux, and tells its locks.
func (m *mux) endLocked(cause error) {
	m.end(lost(cause))
	if !m.notices {
		return // they hang on the context
	}
	for s := range m.sessions.all() {
		if lock := s.lock; lock != nil {
			lock.loseLocked(m.err())
		}
	}
}

// fail tells all calls that the mux has ended. Only the goroutine that reads
// calls it: no reply comes in between.
func (m *mux) fail() {
	m.watch.stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
	if k := m.keeping; k != nil {
		k.timer.Stop()
	}
	m.wake.Signal()
	for s := range m.sessions.all() {
		if s.state.CompareAndSwap(calling, resolved) {
			s.err = m.err()
			s.done <- struct{}{}
		}
	}
}

// write writes the requests. When there are none, it waits.
func (m *mux) write(t transport) {
	var b []byte
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		for len(m.out) == 0 {
			if m.err() != nil || m.down {
				return
			}
			m.idle = true
			m.wake.Wait()
			m.idle = false
			if len(m.out) > 0 {
				// Those that are about to ask, too, shall come along.
				m.mu.Unlock()
				runtime.Gosched()
				m.mu.Lock()
			}
		}
		if cap(b) > keptRoom {
			b = nil
		}
		b, m.out = m.out, b[:0]
		m.mu.Unlock()
		var err error = errLapsed
		if !m.lapsed() {
			err = t.sendLines(b)
		}
		m.mu.Lock()
		if err != nil {
			if m.cause == nil {
				m.cause = err
			}
			// The server's last word may still be on its way, see grace.
			t.expireReads(time.Now().Add(grace))
			return
		}
	}
}

// endRestedLocked ends sessions that a peak has left behind. What is free is
// used from its end, so those that rest are at its beginning.
func (m *mux) endRestedLocked() {
	if time.Since(m.since) < restTime {
		return
	}
	n := min(m.rested-keptSessions, endedAtOnce)
	if n <= 0 {
		m.since, m.rested = time.Now(), len(m.free)
		return
	}
	for _, s := range m.free[:n] {
		m.tellLocked(s, bye)
	}
	m.free = slices.Clone(m.free[n:]) // without the room for more, and what is in there
	m.rested -= n
}

// start takes a session and asks. The error is ErrLost or ErrTooManySessions.
func (m *mux) start(v *verb, a arguments, name string) (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.err(); err != nil {
		return nil, err
	}
	var s *session
	if n := len(m.free); n > 0 {
		s = m.free[n-1]
		m.free = m.free[:n-1]
		m.rested = min(m.rested, n-1)
	} else if s = m.addLocked(); s == nil {
		return nil, ErrTooManySessions
	}
	if a.note != "" {
		m.registerLocked(s, a.note)
	}
	m.askLocked(s, v, a, name)
	return s, nil
}

// registerLocked registers a session's note, or has the session shown by the
// mux's name alone. What the server says to that is for nobody: it may register
// none.
func (m *mux) registerLocked(s *session, note string) {
	text := ""
	if note != "" || s.number == 0 {
		text = registration(m.name, note, m.maxLine)
	}
	s.note, s.unsure = note, false
	if m.down {
		s.unsure = true
		return
	}
	s.asides.Add(1)
	m.appendLocked(s, iam, arguments{}, text)
}

// addLocked makes a session, or returns nil if that would be too many: for us,
// or for the server, which knows best. When it has refused one it is not asked
// for more until the next look, or until one has ended.
func (m *mux) addLocked() *session {
	var number uint32
	switch n := len(m.unused); {
	case m.full:
		return nil
	case n > 0:
		number = m.unused[n-1]
		m.unused = m.unused[:n-1]
	case m.made > m.maxSessions:
		return nil
	default:
		number = uint32(m.made)
		m.made++
	}
	s := &session{number: number, done: make(chan struct{}, 1)}
	m.sessions.set(number, s)
	return s
}

// dropLocked forgets a session that the server does not know, or not any more.
func (m *mux) dropLocked(s *session) {
	m.sessions.set(s.number, nil)
	m.unused = append(m.unused, s.number)
}

// again asks for something else with a session whose last call was answered.
func (m *mux) again(s *session, v *verb, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.err(); err != nil {
		return err
	}
	m.askLocked(s, v, arguments{}, name)
	return nil
}

// arguments are the numbers in front of a request's name.
type arguments struct {
	n     [3]uint64
	count int

	lines *lines // where the lines of a reply of many go
	note  string // what is shown of the session, see WithNote
}

func (m *mux) askLocked(s *session, v *verb, a arguments, name string) {
	s.verb, s.name, s.most, s.lines = v, name, v.most, a.lines
	if s.lines != nil {
		s.lines.clear() // they may have been another mux's
	}
	if v.most == 0 {
		s.most = int64(a.n[0])
	}
	if m.keeping != nil {
		s.numbers = a // for the next connection
	}
	s.state.Store(calling)
	m.appendLocked(s, v, a, name)
}

// tellLocked asks for something with a session that is free, and leaves the
// answer to the mux.
func (m *mux) tellLocked(s *session, v *verb) {
	m.askLocked(s, v, arguments{}, "")
	s.state.Store(forsaken)
	s.stage = toCall
}

func (m *mux) appendLocked(s *session, v *verb, a arguments, name string) {
	if m.down {
		return // what is asked now the next connection brings, see resume
	}
	b := append(strconv.AppendUint(m.out, uint64(s.number), 10), ' ')
	b = append(b, v.word...)
	for _, n := range a.n[:a.count] {
		b = strconv.AppendUint(append(b, ' '), n, 10)
	}
	if name != "" {
		b = append(b, ' ')
		b = append(b, name...)
	}
	m.out = append(b, '\n')
	if m.idle {
		m.idle = false
		m.wake.Signal()
	}
}

// put gives a session back that holds nothing.
func (m *mux) put(s *session) {
	m.mu.Lock()
	m.putLocked(s)
	m.mu.Unlock()
}

func (m *mux) putLocked(s *session) {
	refused := s.err == ErrTooManySessions
	s.state.Store(quiet)
	s.verb, s.name, s.lines, s.err, s.granted, s.lock = nil, "", nil, nil, false, nil
	switch {
	case s.number == 0:
	case refused:
		m.full = true
		m.dropLocked(s)
	default:
		if s.note != "" && m.err() == nil {
			m.registerLocked(s, "")
		}
		m.free = append(m.free, s)
	}
}

// wait waits for the answer. If it returns an error, which is the context's,
// the session is gone: the mux ends the wait on the server, and releases what
// it was granted all the same.
func (m *mux) wait(ctx context.Context, s *session) error {
	if ctx.Done() == nil {
		<-s.done
		return nil
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	late := s.interrupted(ctx)
	if m.forsake(s) {
		return late
	}
	<-s.done // it was answered at the same moment
	if s.err == nil && s.verb.undo != nil {
		m.undo(s)
		return late
	}
	return nil
}

// forsake leaves a call to the mux, unless it is answered.
func (m *mux) forsake(s *session) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !s.state.CompareAndSwap(calling, forsaken) {
		return false
	}
	s.stage = toCall
	if s.lines != nil {
		s.lines.drop()
	}
	switch {
	case m.down:
		m.forgetLocked(s)
	case s.verb.waits:
		m.appendLocked(s, cancel, arguments{}, "")
	}
	return true
}

// undo releases what a session holds and nobody wants.
func (m *mux) undo(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() == nil {
		m.undoLocked(s)
	}
}

func (m *mux) undoLocked(s *session) {
	s.lock = nil
	if m.down {
		m.forgetLocked(s)
		return
	}
	m.askLocked(s, s.verb.undo, arguments{}, s.name)
	s.state.Store(forsaken)
	s.stage = toRelease
}

// read hands out the replies.
func (m *mux) read(t transport) error {
	for {
		line, err := t.readLine()
		if err != nil {
			return err
		}
		if m.keeping != nil {
			if err := m.mayUse(); err != nil {
				return err
			}
		}
		number, rest, ok := number(line)
		if !ok || m.old {
			return notAsked(line)
		}
		if m.notices && hasPrefix(rest, wire.Notice) {
			m.notice(number, rest[len(wire.Notice):])
			continue
		}
		s := m.sessions.get(number)
		if s == nil {
			return notAsked(line)
		}
		if s.claim != nil {
			if err := m.claimAnswered(s, rest); err != nil {
				return err
			}
			continue
		}
		if s.asides.Load() > 0 {
			if _, err := parseReply(rest, iam, "", iam.most); err != nil {
				return err
			}
			s.asides.Add(-1)
			continue
		}
		state := s.state.Load()
		if (state == calling || state == forsaken) && s.lines != nil && hasPrefix(rest, wire.Item) {
			s.lines.add(rest[len(wire.Item):])
			continue
		}
		switch state {
		case calling:
			r, err := parseAnswer(rest, s.verb, s.name, s.most)
			if err != nil {
				return err
			}
			if s.state.CompareAndSwap(calling, resolved) {
				s.n, s.err = r.n, r.err
				if m.notices && s.err == nil && s.verb.effect == acquires {
					m.hold(s)
				}
				s.done <- struct{}{}
				continue
			}
			fallthrough
		case forsaken:
			if err := m.settle(s, rest); err != nil {
				return err
			}
		default:
			return notAsked(line)
		}
	}
}

// settle takes a reply to a session whose caller has gone.
func (m *mux) settle(s *session, line []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, most := s.verb, s.most
	if s.stage == toCancel {
		v, most = cancel, cancel.most
	}
	r, err := parseAnswer(line, v, s.name, most)
	if err != nil {
		return err
	}
	if v == claimed && r.err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, r.err)
	}
	if s.number == 0 && !m.beatenLocked(v) {
		return errLapsed
	}
	if v.effect == releases && errors.Is(r.err, ErrNotAuthenticated) {
		return errUnknown
	}
	if v == bye && r.err == nil {
		m.full = false
		m.dropLocked(s)
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
		m.undoLocked(s)
		return nil
	}
	m.putLocked(s)
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
