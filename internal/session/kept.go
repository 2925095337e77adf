package session

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// kept is all the clients that are kept, by the hashes of their KEYs.
type kept struct {
	mu      sync.Mutex // guards what follows
	byKey   map[KeyHash]*keeping
	stopped bool
	endings []func()       // of those that nobody carries
	enders  int            // who see to them
	running sync.WaitGroup // of these

	detached atomic.Int64 // of them
	resumed  atomic.Uint64
	expired  atomic.Uint64
	claimed  atomic.Uint64
	refused  atomic.Uint64 // claims
}

// Kept is how many clients are kept, and what has become of others.
type Kept struct {
	Clients  int    // that are kept, those without a connection among them
	Away     int    // without a connection
	Resumed  uint64 // times that one has come back
	Expired  uint64 // that have not, in time
	Claims   uint64 // that were accepted
	Refused  uint64 // that were not
	Open     int    // KEYs of an earlier process, whose claims are to come; 0: none, or it does not recover
	Recovers bool
	Left     time.Duration // for how long it recovers at most
}

// Kept looks.
func (h *Hub) Kept() Kept {
	k := &h.keeps
	k.mu.Lock()
	n := len(k.byKey)
	k.mu.Unlock()
	all := Kept{
		Clients: n, Away: int(k.detached.Load()), Resumed: k.resumed.Load(), Expired: k.expired.Load(),
		Claims: k.claimed.Load(), Refused: k.refused.Load(),
	}
	if r := h.recovery; r != nil {
		all.Open, all.Left, all.Recovers = r.state()
	}
	return all
}

// Reserved is how many connections are kept free for clients that are to come back.
func (h *Hub) Reserved() int {
	n := int(h.keeps.detached.Load())
	if r := h.recovery; r != nil {
		n += int(r.missing.Load())
	}
	return n
}

func (k *kept) away(n int64) { k.detached.Add(n) }

// add notes one, if there are fewer than so many.
func (k *kept) add(one *keeping, most int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.byKey) >= most {
		return false
	}
	if k.byKey == nil {
		k.byKey = make(map[KeyHash]*keeping)
	}
	k.byKey[one.key] = one
	return true
}

// gone forgets one: nobody finds it any more.
func (k *kept) gone(one *keeping) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.byKey, one.key)
}

func (k *kept) find(key KeyHash) *keeping {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.byKey[key]
}

// mostEnders is how many goroutines end clients that nobody carries: their time may be
// over for very many at once.
const mostEnders = 4

// start has f called on a goroutine, unless all has come to its end.
func (k *kept) start(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		return
	}
	k.endings = append(k.endings, f)
	if k.enders < mostEnders {
		k.enders++
		k.running.Go(k.end)
	}
}

// end calls what there is to be called.
func (k *kept) end() {
	for {
		k.mu.Lock()
		if len(k.endings) == 0 {
			k.endings = nil
			k.enders--
			k.mu.Unlock()
			return
		}
		f := k.endings[0]
		k.endings = k.endings[1:]
		k.mu.Unlock()
		f()
	}
}

// stop has no more time pass for anybody. What does not outlive the process ends here.
func (k *kept) stop(outlives bool) {
	k.mu.Lock()
	k.stopped = true
	all := slices.Collect(maps.Values(k.byKey))
	k.mu.Unlock()
	k.running.Wait()
	for _, one := range all {
		one.mu.Lock()
		was := one.state
		one.state = over
		if one.timer != nil {
			one.timer.Stop()
		}
		one.mu.Unlock()
		if was == detached && !outlives {
			k.away(-1)
			k.gone(one)
			one.closeAll(&ending{why: WhyShutdown})
		}
	}
}

// What a KEY takes beside its stream, about.
const keepingBytes = 512

// textKeep has the client kept, which has asked for nothing else yet.
func (s *Session) textKeep(_, out []byte) []byte {
	st, h := s.stream, s.hub
	asked := s.args().a
	switch {
	case h.cfg.MaxKeep <= 0 && st.door&linked == 0:
		return append(s.prefix(out), wire.KeepDisabled...)
	case !st.isFresh(s):
		return s.reply(out, 0, wire.NotFirst, []byte(wire.Keep))
	case st.draining():
		st.turnedAway = true
		return s.reply(out, 0, wire.ShuttingDown, []byte(wire.Keep))
	}
	lasts := min(time.Duration(asked)*time.Millisecond, h.cfg.MaxKeep)
	if st.door&linked != 0 {
		lasts = h.node.cfg.linkKeep()
	}
	key := newKey()
	hash, _ := hashOf([]byte(key), st.Access())
	k := &keeping{stream: st, key: hash, lasts: lasts, carrier: st.carrier}
	if !st.account.share.TakeSession() {
		return s.keepRefused(out)
	}
	if !st.takeMemory(keepingBytes) {
		st.account.share.GiveSession()
		return s.keepRefused(out)
	}
	if !h.keeps.add(k, h.mostKept()) {
		st.giveKeeping()
		return s.keepRefused(out)
	}
	reply := &keepReply{session: s, keeping: k, key: key}
	if h.cfg.Store == nil {
		reply.done.Store(true)
	} else {
		h.cfg.Store.Keep(hash, uint64(lasts/time.Millisecond), reply.stored)
	}
	return s.list(reply, out)
}

func (s *Session) keepRefused(out []byte) []byte {
	return s.reply(out, 0, wire.ServerFull, []byte(wire.Keep))
}

// mostKept is how many clients are kept at most, besides those of an earlier process that
// have not come yet.
func (h *Hub) mostKept() int {
	most := MostSessions
	if h.cfg.MaxConnections > 0 {
		most = h.cfg.MaxConnections
	}
	if h.recovery != nil {
		most -= int(h.recovery.missing.Load())
	}
	return most
}

// isFresh tells whether nothing was asked for on the stream that has left anything.
func (st *Stream) isFresh(s *Session) bool {
	return s == &st.main && len(st.sessions) == 0 && s.owner.Held() == 0 && s.wait == nil && s.named == 0 && !st.isKept()
}

// keepReply is the reply to `keep`. It comes when the KEY is where it survives the
// process, and nothing behind it is executed before.
type keepReply struct {
	session *Session
	keeping *keeping
	key     string
	done    atomic.Bool
	failed  atomic.Bool
	hurried bool
	told    bool
}

// stored is called when the KEY is stored, or is not.
func (l *keepReply) stored(err error) {
	l.failed.Store(err != nil)
	l.done.Store(true)
	l.session.stream.wake()
}

func (l *keepReply) queued() bool { return !l.hurried && !l.done.Load() }
func (l *keepReply) hurry()       { l.hurried = true }

func (l *keepReply) next(out []byte) (_ []byte, more bool) {
	s := l.session
	if !l.done.Load() {
		s.stream.pause(censusLook)
		return out, true
	}
	if l.failed.Load() {
		return s.keepRefused(out), false
	}
	l.told = true
	k := l.keeping
	text := wire.Kept
	switch {
	case s.hub.node != nil && s.stream.link == nil:
		text = wire.KeptEverywhere
		k.generation = 1
	case s.hub.cfg.Store == nil:
		text = wire.KeptBlipsOnly
	default:
		s.hub.network.Outlives(s.stream.carrier)
	}
	s.stream.keeping.Store(k)
	s.appears()
	return s.reply(out, uint64(k.lasts/time.Millisecond), text, []byte(l.key)), false
}

func (*keepReply) rest()      {}
func (*keepReply) keeps() int { return 0 }

// close forgets a KEY that the client has not been told.
func (l *keepReply) close() {
	if l.told {
		return
	}
	st := l.session.stream
	st.hub.keeps.gone(l.keeping)
	st.giveKeeping()
	l.keeping.forget(nil)
}

// endKeeping gives back what a KEY took, at the stream's end.
func (st *Stream) endKeeping() {
	if st.isKept() {
		st.giveKeeping()
	}
}

func (st *Stream) giveKeeping() {
	st.giveMemory(keepingBytes)
	st.account.share.GiveSession()
}
