package session

import (
	"bytes"
	"cmp"
	"strconv"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/wire"
)

// What an Upstream says and hears over a connection, from `hello` on.

type upstreamState uint8

const (
	greets upstreamState = iota
	authenticates
	introduces
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
	u.announced.Store(0)
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
	u.introduce()
	return nil
}

// introduce has another node know which one this is, and that it is meant itself: a process
// that has started since under the same address is not.
func (u *Upstream) introduce() {
	if u.node == nil {
		u.takeUp()
		return
	}
	u.state = introduces
	u.ask(wire.Link, u.node.cfg.World+" "+u.node.from()+" "+u.peer.ID)
}

// takeUp asks for what is kept there, or to be kept from now on.
func (u *Upstream) takeUp() {
	u.mu.Lock()
	key := u.key
	u.mu.Unlock()
	if key != "" {
		u.state = resumes
		if u.connections > 0 { // of a node, any of which takes it up
			u.connections++
			key += " " + strconv.FormatUint(u.connections, 10) + " " + strconv.FormatInt(u.keeps.Milliseconds(), 10)
		}
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
		u.introduce()
	case wire.Link:
		if number == 0 {
			return &ErrUpstream{"the node does not take this one's link: " + string(text)}
		}
		u.takeUp()
	case wire.Keep:
		return u.keptFor(number, text, now, of.sent)
	case wire.Resume:
		return u.resumed(l, number, text, now, of.sent)
	case wire.Claimed:
		if u.node != nil {
			return nil // see believes
		}
		if !l.Claimed(now, of.sent) {
			u.expire(l)
			return errExpired
		}
	case wire.Ping:
		if u.node != nil && !u.node.believes(number) {
			return nil
		}
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
	u.connections = 0
	if after, everywhere := bytes.CutPrefix(text, []byte(wire.KeptEverywhere)); everywhere {
		key, u.connections = after, 1
	} else if !blips {
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
	if u.node != nil {
		blips, u.keeps = false, u.node.cfg.linkLease()
	} else if h := u.hub.cfg.DeadPeer; u.keeps < h {
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

// resumed takes the reply to `resume`.
func (u *Upstream) resumed(l *lease.Lease, number uint64, text []byte, now, sent time.Duration) error {
	switch left, claims := claimsLeft(text); {
	case number > 0 && bytes.HasPrefix(text, []byte(wire.Resumed)):
		if u.node == nil && !l.Answered(now, sent) { // see believes
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
	switch {
	case again && u.node != nil:
		u.cfg.Log("linked again")
	case again:
		u.cfg.Log("upstream is back")
	case u.node != nil:
		u.cfg.Log("linked")
	default:
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
		full, end := len(u.out) >= replayBytes, u.replaying >= u.end()
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
