package session

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A closed connection is closed: who has closed one knows that its locks are
// free, and asks for them over another. The kernel knows it too by then, but the
// carrier of the first may come to it later than that of the second. So before
// somebody is refused a lock, or told a count, because of others, their carriers
// are asked whether their clients are gone. If one is, the request is postponed
// until that one's session has ended.

// maxLook is about how many holders of a shared lock is asked, maxThere how many
// holders of exclusive locks that are there a turn remembers not to ask again, and
// maxAsked about how many of those in the way it finds out.
const (
	maxLook  = 64
	maxThere = 16
	maxAsked = 128
)

// lookSeed is for the hashes by which a turn remembers shared locks. If two locks
// ever had the same, one would not be looked at.
var lookSeed = maphash.MakeSeed()

// lingering is for how long nobody waits for the end of one who is gone and has
// not ended in time: a client that does not read may have closed its side, and
// holds what it holds until it reads, or for ever.
const lingering = time.Second

// othersAreGone tells whether a request about a lock is postponed because somebody
// is gone who holds it, or is the first who waits for it and keeps others back.
// About an exclusive lock it is asked when a request has been in vain, but about a
// shared one before the request takes effect: made again when it has, it would
// tell a count that was never true when it got the lock. Those who ask all the
// time have no look for each request, see Turn.
//
// Where as many as limit keep the request from the lock, and are not known to be
// gone, they are wanted: a machine that has vanished has closed nothing. A limit of
// 0 says that nobody is refused because of them.
//
// While the table recovers it depends on nobody who is there.
func (s *Session) othersAreGone(kind shard.Kind, name []byte, limit uint64) bool {
	return s.stream.turn.Looks > 0 && s.look(kind, name, limit)
}

//go:noinline
func (s *Session) look(kind shard.Kind, name []byte, limit uint64) bool {
	st, t := s.stream, s.stream.turn
	hash := uint64(0)
	if kind == shard.Shared {
		if hash = maphash.Bytes(lookSeed, name); hash == t.shared {
			return false
		}
	}
	if t.asked >= maxAsked {
		return false
	}
	known, changed := s.inTheWay(kind, name)
	defer clear(t.carriers)
	gone := slices.Index(t.carriers, t.gone)
	if !changed && gone < 0 && len(known) > 0 {
		t.Looks--
		if gone = s.hub.network.Gone(t.carriers); gone >= 0 {
			t.gone = t.carriers[gone]
		}
		// Who has ended since may have been looked at by another's descriptor.
		changed = slices.ContainsFunc(known, func(id uint32) bool { return s.hub.directory.peer(id) == nil })
	}
	if !changed && gone < 0 { // all are there
		if limit > 0 && uint64(len(known)) >= min(limit, maxLook) {
			s.hub.network.Want(t.carriers)
		}
		if kind == shard.Shared {
			t.shared = hash
		} else if len(t.there) < maxThere {
			t.there = append(t.there, t.carriers...)
		}
		return false
	}
	if !s.postpone(s.hub.cfg.Postpone) {
		if !changed && !st.postponed.until.IsZero() { // it has had its time
			if other := s.hub.streamOf(known[gone]); other != nil {
				other.main.peer.lingers.Store(s.hub.clock.nanoseconds() + uint64(lingering))
			}
		}
		return false
	}
	var p *peer
	if !changed {
		p = s.hub.directory.watch(known[gone], s)
	}
	if st.postponed.watch(p); p == nil {
		st.post(s) // the time has come already
	}
	return true
}

// inTheWay finds out for look who is in the way of a request, and may be gone: their
// IDs, and in the same order their carriers in the turn. changed tells that somebody
// was, and has ended since. What it returns is good until the next one. Who is kept is
// not among them, as the end of its connection frees nothing.
func (s *Session) inTheWay(kind shard.Kind, name []byte) (ids []uint32, changed bool) {
	t := s.stream.turn
	if t.holders == nil {
		t.holders, t.carriers = make([]uint32, 0, maxLook), make([]Carrier, 0, maxLook)
	}
	t.holders, t.carriers = t.holders[:0], t.carriers[:0]
	if kind == shard.Shared {
		t.holders = s.hub.locks.Ahead(name, t.holders)
	} else if id := s.hub.locks.Holder(name); id != 0 {
		t.holders = append(t.holders, id)
	}
	t.asked += max(1, len(t.holders))
	changed = kind == shard.Exclusive && len(t.holders) == 0
	ids = t.holders[:0]
	for _, id := range t.holders {
		if other := s.hub.streamOf(id); other == nil {
			changed = true
		} else if other != s.stream && !other.isKept() && !other.lingers() && !slices.Contains(t.there, other.carrier) {
			ids, t.carriers = append(ids, id), append(t.carriers, other.carrier)
		}
	}
	return ids, changed
}

// streamOf returns an owner's stream, or nil when that is gone.
func (h *Hub) streamOf(id uint32) *Stream {
	if p := h.directory.peer(id); p != nil {
		if s := p.session.Load(); s != nil {
			return s.stream
		}
	}
	return nil
}

// lingers tells whether the end of a stream's client has been waited for in vain.
func (st *Stream) lingers() bool {
	until := st.main.peer.lingers.Load()
	return until > 0 && st.hub.clock.nanoseconds() < until
}
