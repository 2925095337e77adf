package session

import (
	"bytes"
	"cmp"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// UpstreamConfig makes a proxy of a server: what clients want of locks and rates is
// asked of another server.
type UpstreamConfig struct {
	Keep     time.Duration // for how long that is asked to keep what the proxy has, without a connection; 0: the longest
	Patience time.Duration // for how long who may wait is not told that it cannot be reached; 0: DefaultPatience
	Prompt   time.Duration // the same for who may not wait; what is less than plainTicks, as nothing is, means those
	// Flush has what Take returns sent soon, and Cut ends the connection. Neither blocks;
	// any goroutine calls them.
	Flush func()
	Cut   func()
	// Relay makes a request over a connection of its own, and returns what ends that.
	Relay func(request []byte, to Relay) (cancel func())
	Log   func(msg string, attrs ...any)
}

// DefaultPatience is a UpstreamConfig's.
const DefaultPatience = 10 * time.Second

// An Upstream is a proxy's one connection to its server, as far as its words go: bytes
// in, bytes out, like a Stream. It is kept there (see docs/surviving.md), so that it
// outlives the connection, and it claims what the proxy's clients hold when it is back.
//
// A client is a session there, see remote. Requests of all of them go out in the order
// in which they come; whoever has the connection takes them, many at a time.
type Upstream struct {
	hub     *Hub
	cfg     UpstreamConfig
	live    atomic.Uint32 // the connection over which requests are sent now; 0: there is none
	tick    atomic.Uint32 // the time, in ticks
	filled  atomic.Bool   // out has something
	replays atomic.Bool   // sessions are being taken up
	rests   atomic.Bool   // nothing is pending, and nobody looks often
	lease   atomic.Pointer[lease.Lease]
	all     atomic.Pointer[[]atomic.Pointer[remote]] // by number; mu guards writes

	mu     sync.Mutex // guards what follows
	out    []byte
	asked  uint64 // requests that are answered in their order
	next   uint32
	free   []uint32
	mine   []own // what session 0 has asked
	key    string
	pinged time.Duration
	began  time.Duration // when the connection has, whose requests are not sent yet; 0: there is none

	ends sync.Mutex // has who gives up; comes before all others

	answered atomic.Uint64 // of those

	served atomic.Uint64 // connections that served
	given  atomic.Uint64 // requests that were answered here, as they were not there
	ended  atomic.Uint64 // clients that have lost what they held

	// The rest is its goroutine's that has the connection.
	connection uint32
	state      upstreamState
	token      string
	partial    []byte
	keeps      time.Duration
	blipsOnly  bool
	replaying  uint32 // the next number whose session is to be taken up; 0: none is

	kick chan struct{} // the look-out
	done chan struct{}
	over sync.WaitGroup
}

type upstreamState uint8

const (
	greets upstreamState = iota
	authenticates
	asksToBeKept
	resumes
	serves
)

// An own request is one of session 0: it is about the connection.
type own struct {
	verb string
	sent time.Duration // by the lease's clock, before it was
	then func()        // is called when it is answered, or will not be; nil: nothing is
}

// ErrUpstream is that a server can be no proxy's.
type ErrUpstream struct{ Reason string }

func (e *ErrUpstream) Error() string { return e.Reason }

var errExpired = errors.New("upstream has not been heard for too long: what clients held is given up")

func newUpstream(h *Hub, cfg UpstreamConfig) *Upstream {
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	u := &Upstream{hub: h, cfg: cfg, next: 1, kick: make(chan struct{}, 1), done: make(chan struct{})}
	u.all.Store(new([]atomic.Pointer[remote]))
	u.tick.Store(1)
	u.over.Go(u.lookOut)
	return u
}

// Upstream returns the proxy's; nil: the hub is a server's.
func (h *Hub) Upstream() *Upstream { return h.upstream }

func (u *Upstream) stop() {
	if u != nil {
		close(u.done)
		u.over.Wait()
	}
}

func (u *Upstream) moment() shard.Moment { return max(1, shard.MomentOf(u.hub.clock.milliseconds())) }

// join gives a remote its number.
func (u *Upstream) join(r *remote) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if n := len(u.free); n > 0 {
		r.number, u.free = u.free[n-1], u.free[:n-1]
	} else {
		r.number = u.next
		u.next++
	}
	all := *u.all.Load()
	if int(r.number) >= len(all) {
		more := make([]atomic.Pointer[remote], max(64, 2*len(all)))
		for i := range all {
			more[i].Store(all[i].Load())
		}
		all = more
		u.all.Store(&more)
	}
	r.epoch = u.live.Load()
	all[r.number].Store(r)
}

// leave gives the number back: upstream has ended the session.
func (u *Upstream) leave(r *remote) {
	u.mu.Lock()
	defer u.mu.Unlock()
	(*u.all.Load())[r.number].Store(nil)
	u.free = append(u.free, r.number)
}

// find returns whose a number is, or nil.
func (u *Upstream) find(number uint64) *remote {
	if all := *u.all.Load(); number < uint64(len(all)) {
		return all[number].Load()
	}
	return nil
}

// send sends lines, of which some are answered in the order of all requests: not if
// their session has not been taken up over the connection that there is.
func (u *Upstream) send(epoch uint32, lines []byte, ordered uint64) {
	if epoch == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.live.Load() != epoch {
		return
	}
	u.out = append(u.out, lines...)
	u.asked += ordered
	if !u.filled.Load() {
		u.filled.Store(true)
	}
}

// Pending tells whether there is anything to be sent.
func (u *Upstream) Pending() bool { return u.filled.Load() }

// Take returns what is to be sent, in exchange for a buffer.
func (u *Upstream) Take(buffer []byte) []byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := u.out
	u.out = buffer[:0]
	u.filled.Store(false)
	return out
}

// ask sends a request of session 0.
func (u *Upstream) ask(verb, rest string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.askLocked(verb, rest)
}

func (u *Upstream) askLocked(verb, rest string) {
	u.mine = append(u.mine, own{verb: verb, sent: lease.Now()})
	u.out = append(append(u.out, "0 "...), verb...)
	if rest != "" {
		u.out = append(append(u.out, ' '), rest...)
	}
	u.out = append(u.out, '\n')
	u.filled.Store(true)
}

// after calls f when upstream has executed all that was sent so far, or is away. It does
// not wait for that.
func (u *Upstream) after(f func()) {
	u.mu.Lock()
	there := u.live.Load() != 0
	if there {
		u.askLocked(wire.Ping, "")
		u.mine[len(u.mine)-1].then = f
	}
	u.mu.Unlock()
	if !there {
		f()
	}
}

// Begin begins the dialogue over a new connection, with a token for a server that asks
// for one.
func (u *Upstream) Begin(token string) {
	u.Lost(nil)
	u.token = token
	u.mu.Lock()
	u.began = lease.Now()
	u.out = append(u.out, wire.Hello+" 2 "+wire.Notices+"\n"...)
	u.filled.Store(true)
	u.mu.Unlock()
}

// Lost is told that the connection has ended, or that there was none to be had: with
// refused, since nobody listens.
func (u *Upstream) Lost(refused error) {
	u.mu.Lock()
	u.live.Store(0)
	mine := u.mine
	u.out, u.mine, u.partial = nil, nil, nil
	u.state, u.replaying, u.began = greets, 0, 0
	u.replays.Store(false)
	u.asked = 0
	u.answered.Store(0)
	u.mu.Unlock()
	for _, of := range mine {
		if of.then != nil {
			of.then()
		}
	}
	if refused != nil && u.blipsOnly {
		u.expire(u.lease.Load())
	}
	u.rouse()
}

var notAuthenticated = []byte(wire.NotAuthenticated[:len(wire.NotAuthenticated)-1])

// maxUpstreamLine bounds a reply.
const maxUpstreamLine = 1 << 20

// Receive takes what upstream has sent. An error says that the connection is of no use.
func (u *Upstream) Receive(in []byte) error {
	if l := u.lease.Load(); l == nil && u.state == serves || l != nil && l.Expired(lease.Now()) {
		u.expire(l)
		return errExpired // whatever was granted meanwhile, to nobody who is kept
	}
	now := u.moment()
	answered := uint64(0)
	var r *remote // whose turn it is: replies of one come together
	defer func() {
		r.endAnswers()
		u.answered.Add(answered)
	}()
	for len(in) > 0 {
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			if len(u.partial)+len(in) > maxUpstreamLine {
				return &ErrUpstream{"a reply is too long"}
			}
			u.partial = append(u.partial, in...)
			return nil
		}
		line := in[:end]
		in = in[end+1:]
		if len(u.partial) > 0 {
			line = append(u.partial, line...)
			u.partial = line[:0]
		}
		if u.state == greets {
			if err := u.greeted(line); err != nil {
				return err
			}
			continue
		}
		number, reply, ok := wire.Number(line)
		switch {
		case !ok:
			return &ErrUpstream{"it does not speak protocol 2: " + string(line[:min(len(line), 80)])}
		case number == 0:
			r.endAnswers()
			r = nil
			if err := u.told(reply); err != nil {
				return err
			}
		case bytes.HasPrefix(reply, notAuthenticated):
			return &ErrUpstream{"the server does not know the proxy any more"} // it may have another token by now
		default:
			if next := u.find(number); next != r {
				r.endAnswers()
				r = next
				r.beginAnswers(now)
			}
			if r != nil && r.answerLocked(reply) {
				answered++
			}
		}
	}
	return nil
}

// greeted takes the reply to `hello`.
func (u *Upstream) greeted(line []byte) error {
	if !bytes.HasPrefix(line, []byte(wire.Hello2)) {
		return &ErrUpstream{"the server is too old for a proxy: " + string(line[:min(len(line), 80)])}
	}
	if u.token != "" {
		u.state = authenticates
		u.ask(wire.Auth, u.token)
		return nil
	}
	u.takeUp()
	return nil
}

// takeUp asks for what is kept there, or to be kept from now on.
func (u *Upstream) takeUp() {
	u.mu.Lock()
	key := u.key
	u.mu.Unlock()
	if key != "" {
		u.state = resumes
		u.ask(wire.Resume, key)
		return
	}
	u.state = asksToBeKept
	u.ask(wire.Keep, strconv.FormatInt(int64(cmp.Or(u.cfg.Keep.Milliseconds(), wire.MaxWait)), 10))
}

// told takes the reply to a request of session 0.
func (u *Upstream) told(line []byte) error {
	if bytes.HasPrefix(line, []byte(wire.Notice)) {
		return nil
	}
	u.mu.Lock()
	if len(u.mine) == 0 {
		u.mu.Unlock()
		return &ErrUpstream{"it says what it was not asked for: " + string(line[:min(len(line), 80)])}
	}
	of := u.mine[0]
	u.mine = u.mine[1:]
	u.mu.Unlock()
	if of.then != nil {
		defer of.then()
	}
	now := lease.Now()
	number, text, _ := wire.Number(line)
	l := u.lease.Load()
	if l == nil && (of.verb == wire.Resume || of.verb == wire.Claimed || of.verb == wire.Ping) {
		return errExpired
	}
	switch of.verb {
	case wire.Auth:
		if number == 0 {
			return &ErrUpstream{"the server does not know the token"}
		}
		u.takeUp()
	case wire.Keep:
		return u.keptFor(number, text, now, of.sent)
	case wire.Resume:
		return u.resumed(l, number, text, now, of.sent)
	case wire.Claimed:
		if !l.Claimed(now, of.sent) {
			u.expire(l)
			return errExpired
		}
	case wire.Ping:
		if !l.Answered(now, of.sent) {
			u.expire(l)
			return errExpired
		}
	}
	return nil
}

// keptFor takes the reply to `keep`.
func (u *Upstream) keptFor(ms uint64, text []byte, now, sent time.Duration) error {
	key, blips := bytes.CutPrefix(text, []byte(wire.KeptBlipsOnly))
	if !blips {
		var ok bool
		if key, ok = bytes.CutPrefix(text, []byte(wire.Kept)); !ok {
			switch {
			case bytes.HasPrefix(text, []byte(wire.KeepDisabled[2:len(wire.KeepDisabled)-1])):
				return &ErrUpstream{"the server keeps nobody without a connection, as a proxy needs it: set --max-keep there"}
			case bytes.HasPrefix(text, []byte(wire.NotAuthenticated[2:len(wire.NotAuthenticated)-1])):
				return &ErrUpstream{"the server asks for a token (--token-file), or for a certificate that it knows (--client-cert)"}
			}
			return &ErrUpstream{"the server does not keep the proxy: " + string(text)}
		}
	}
	u.keeps = time.Duration(ms) * time.Millisecond
	if h := u.hub.cfg.DeadPeer; u.keeps < h {
		return &ErrUpstream{"the server keeps for " + u.keeps.String() + " only, and clients here count on " + h.String() +
			": raise --max-keep there, or lower --dead-peer-timeout here"}
	}
	u.mu.Lock()
	u.key = string(key)
	u.mu.Unlock()
	u.blipsOnly = blips
	u.lease.Store(lease.New(u.keeps, stopsIn, sent))
	u.begins(false)
	return nil
}

// stopsIn is how long it takes the proxy to end the clients that have lost what they
// held.
const stopsIn = 100 * time.Millisecond

// resumed takes the reply to `resume`.
func (u *Upstream) resumed(l *lease.Lease, number uint64, text []byte, now, sent time.Duration) error {
	switch left, claims := claimsLeft(text); {
	case number > 0 && bytes.HasPrefix(text, []byte(wire.Resumed)):
		if !l.Answered(now, sent) {
			u.expire(l)
			return errExpired
		}
	case claims:
		if !l.ClaimsOpen(now, sent, left) {
			u.expire(l)
			return errExpired
		}
	case !bytes.HasPrefix(text, []byte(wire.UnknownKey)):
		// Such as that the token is not the right one any more: it keeps what it
		// does not give out.
		return &ErrUpstream{"the server does not let the proxy take up what it keeps: " + string(text[:min(len(text), 80)])}
	default:
		u.cfg.Log("upstream has forgotten the proxy", "reply", string(text))
		u.expire(l)
		u.takeUp()
		return nil
	}
	u.begins(true)
	return nil
}

// claimsLeft reads for how long claims are open.
func claimsLeft(text []byte) (time.Duration, bool) {
	rest, ok := bytes.CutPrefix(text, []byte(wire.ClaimsOpen))
	if !ok {
		return 0, false
	}
	digits, _, _ := bytes.Cut(rest, []byte(":"))
	ms, _, ok := wire.Number(digits)
	return time.Duration(ms) * time.Millisecond, ok
}

// begins has requests sent over the connection from now on; first those that are
// pending, and claims.
func (u *Upstream) begins(again bool) {
	u.mu.Lock()
	u.connection++
	u.live.Store(u.connection)
	u.state, u.replaying, u.began = serves, 1, 0
	u.served.Add(1)
	u.replays.Store(true)
	u.mu.Unlock()
	if again {
		u.cfg.Log("upstream is back")
	} else {
		u.cfg.Log("upstream keeps what the proxy's clients hold", "keep", u.keeps, "restarts", !u.blipsOnly)
	}
	u.GoOn()
}

// replayBytes is about how much is sent at a time of what is claimed.
const replayBytes = 256 << 10

// Replays tells whether GoOn has something to do.
func (u *Upstream) Replays() bool { return u.replays.Load() }

// GoOn goes on to take up sessions, when all that there was is sent. Whoever has the
// connection calls it then.
func (u *Upstream) GoOn() {
	for u.replaying > 0 {
		u.mu.Lock()
		full, end := len(u.out) >= replayBytes, u.replaying >= u.next
		u.mu.Unlock()
		switch {
		case full:
			return
		case end:
			u.replaying = 0
			u.replays.Store(false)
			u.ask(wire.Claimed, "")
			u.cfg.Flush()
			return
		}
		if r := u.find(uint64(u.replaying)); r != nil {
			r.takeUp(u.connection)
		}
		u.replaying++
	}
}

// expire gives up, for good: every client that holds something, or waits, is ended, before
// anybody is told anything more. Whoever finds the time to be up calls it, and it is done
// when it returns, also if somebody else has been quicker. It tells whether nobody was.
func (u *Upstream) expire(l *lease.Lease) bool {
	u.ends.Lock()
	defer u.ends.Unlock()
	if l == nil || u.lease.Load() != l {
		return false
	}
	l.End() // until all are ended, everybody who looks finds it so
	u.mu.Lock()
	u.live.Store(0)
	u.mu.Unlock()
	n := 0
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil && r.expire() {
			n++
		}
	}
	u.ended.Add(uint64(n))
	u.mu.Lock()
	u.key = "" // from now on another one may be asked for, and sessions taken up with that
	u.mu.Unlock()
	u.lease.CompareAndSwap(l, nil)
	u.cfg.Log("what the proxy's clients held is lost: they were not heard upstream for too long", "clients", n)
	return true
}

// giveUp does that if the time is up, and has the connection end, over which nothing is to be
// believed. Who calls it may have found so a while ago, and the proxy be kept anew.
func (u *Upstream) giveUp() {
	if l := u.lease.Load(); l != nil && l.Expired(lease.Now()) && u.expire(l) {
		u.cfg.Cut()
	}
}

// Quit says upstream that the proxy ends for good.
func (u *Upstream) Quit() {
	if u.live.Load() != 0 {
		u.ask(wire.Quit, "")
		u.cfg.Flush()
	}
}

// mayAnswer tells whether a client may be told that all is well without asking upstream:
// it counts on that for the time that it may be silent, and all that time the proxy has
// to end it if upstream is gone.
func (u *Upstream) mayAnswer() bool {
	l := u.lease.Load()
	return l != nil && l.Left(lease.Now()) > u.hub.cfg.DeadPeer
}

// Serves tells, whoever has the connection, whether it has come so far that requests
// were passed on.
func (u *Upstream) Serves() bool { return u.state == serves }

// Live tells whether requests are passed on, and how long the lease still is.
func (u *Upstream) Live() (bool, time.Duration) {
	l := u.lease.Load()
	if l == nil {
		return u.live.Load() != 0, 0
	}
	return u.live.Load() != 0, l.Left(lease.Now())
}

// A Link is how a proxy's connection to its server is.
type Link struct {
	Live     bool          // requests are passed on
	Left     time.Duration // until what clients hold is given up, if nothing is heard meanwhile
	Served   uint64        // connections that served
	Answered uint64        // requests that the proxy has answered itself, as they were not answered in time
	Ended    uint64        // clients that have lost what they held, as nothing was heard for too long
}

// Link looks.
func (u *Upstream) Link() Link {
	live, left := u.Live()
	return Link{Live: live, Left: max(0, left), Served: u.served.Load(), Answered: u.given.Load(), Ended: u.ended.Load()}
}

// waiting is how many sessions wait for a lock there. It goes over all of them.
func (u *Upstream) waiting() (n int) {
	if u == nil {
		return 0
	}
	for i := range *u.all.Load() {
		if r := u.find(uint64(i)); r != nil && r.waits.Load() > 0 {
			n++
		}
	}
	return n
}

// isLate tells whether the time is up, which the look-out may not know yet.
func (u *Upstream) isLate() bool {
	l := u.lease.Load()
	return l != nil && l.Expired(lease.Now())
}

// Apart says, before anything is asked, that each reply is a message of its own.
func (st *Stream) Apart() { st.apart = true }
