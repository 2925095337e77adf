package session

import (
	"math"

	"github.com/nylen/lockd/internal/shard"
)

// What is kept for clients beside the table counts on the same memory, and on
// their shares. What they ask for can be refused; what is there already, such as
// replies that they do not read, cannot, so whoever goes on too far with that is
// cut off.

// What things take, about.
const (
	streamBytes       = 768 // a connection with its stream, session 0 and its place in the directory
	sessionBytes      = 512 // another session, with its place and its address as text
	waitBytes         = 128 // beside its name
	registrationBytes = 96  // beside its name
	// freeBytes is what a stream may keep besides: the beginning of a line, or a
	// reply.
	freeBytes = 512
)

// takeMemory tells whether n bytes may be kept for the client.
func (st *Stream) takeMemory(n int) bool {
	switch {
	case !st.hub.memory.Take(n):
		st.counters.serverFull.Add(1)
		st.short(shard.MemoryFull)
		return false
	case !st.account.share.TakeBytes(n):
		st.hub.memory.Add(-n)
		st.counters.shareBytes.Add(1)
		st.short(shard.ShareBytes)
		return false
	}
	return true
}

// giveMemory gives back what takeMemory took.
func (st *Stream) giveMemory(n int) {
	st.hub.memory.Add(-n)
	st.account.share.KeepBytes(-n)
}

// Keeps notes how many bytes of input and output the carrier keeps for the stream
// now, and tells whether that may be. If it may not, the connection is to be
// ended: others need the memory more than a client that does not read.
func (st *Stream) Keeps(n int) bool {
	if cap(st.partial) > keptPartial {
		n += cap(st.partial)
	}
	if st.long != nil {
		n += st.long.keeps()
	}
	if st.door&forwards != 0 {
		n += int(st.underWay.Load())
	}
	if n <= freeBytes {
		n = 0
	}
	return n == int(st.kept.Load()) || st.keeps(n)
}

//go:noinline
func (st *Stream) keeps(n int) bool {
	n = min(n, math.MaxInt32)
	more := n - int(st.kept.Load())
	st.kept.Store(int32(n))
	there := st.hub.memory.Keep(more)
	fair := st.account.share.KeepBytes(more)
	if !there {
		st.short(shard.MemoryFull)
	} else if !fair {
		st.short(shard.ShareBytes)
	}
	if !there || !fair {
		st.counters.cutOff.Add(1)
		return false
	}
	return true
}

// Occupy counts n bytes in that a connection takes because it is there, or out if n is
// negative. Like those of its stream they are nobody's share: all connections that
// come through a load balancer are one client's.
func (h *Hub) Occupy(n int) { h.memory.Add(n) }

// Room tells whether there is memory for one more connection. Those who come to
// see what is wrong have some left when requests find the server full.
func (h *Hub) Room() bool {
	limit := h.memory.Limit()
	return limit == 0 || h.memory.Used()+streamBytes <= limit+limit/8
}

// maxOutput is how many bytes of replies may be pending. Where less is, nobody needs
// to ask.
func (h *Hub) maxOutput() int {
	if h.memory.Full() {
		return min(h.cfg.MaxOutput, frugalOutput)
	}
	return h.cfg.MaxOutput
}

// pieceBytes is the size of a long reply's pieces, but for their last line.
func (h *Hub) pieceBytes() int {
	if h.memory.Full() {
		return frugalOutput
	}
	return pieceBytes
}

// frugalOutput is how many bytes of replies may be pending when memory is short.
const frugalOutput = 4 << 10

// setName registers the session under a name; the empty one takes that back. It
// tells whether there is memory for it.
func (s *Session) setName(name string) bool {
	size := 0
	if name != "" {
		size = registrationBytes + len(name)
		if !s.stream.takeMemory(size) {
			return false
		}
	}
	s.hub.directory.register(s.peer, name)
	s.stream.giveMemory(int(s.named))
	s.named = int32(size)
	return true
}

// forgetMemory gives back what the session took, at its end.
func (s *Session) forgetMemory() {
	s.hub.locks.Forget(&s.owner)
	s.stream.giveMemory(int(s.named))
	s.named = 0
	if s != &s.stream.main {
		s.stream.giveMemory(sessionBytes)
		s.owner.Share.GiveSession()
	}
}

// beginAccount has the stream counted on the account of its client.
func (st *Stream) beginAccount(addr Address) {
	h := st.hub
	st.account = h.accounts.join(h.accounts.keyOf(addr, ""))
	h.memory.Add(streamBytes)
}

// countAs has a client that is known by a name now counted on the account of that
// name, if shares are by name, from the next request on. A client that has got
// something already stays where that is counted.
func (st *Stream) countAs(name string) {
	h := st.hub
	if h.accounts.by != ShareByToken || st.holds() || len(st.sessions) > 0 || st.main.named > 0 || st.isKept() {
		return
	}
	key := h.accounts.keyOf(Address{}, name)
	if st.account.key != key && st.account.key != within {
		st.countOn(key)
	}
}

// countOn has a client that has nothing yet counted on another account.
func (st *Stream) countOn(key accountKey) {
	h := st.hub
	h.locks.Forget(&st.main.owner)
	st.account.share.KeepBytes(-int(st.kept.Load()))
	h.accounts.leave(st.account)
	st.account = h.accounts.join(key)
	st.account.share.KeepBytes(int(st.kept.Load())) // which ends nobody now
	st.main.owner.Share = st.account.share
	st.main.peer.share.Store(st.account.share)
}

// endAccount ends that, when all sessions have ended.
func (st *Stream) endAccount() {
	if st.account == nil {
		return
	}
	st.giveMemory(int(st.kept.Load()))
	st.kept.Store(0)
	st.hub.memory.Add(-streamBytes)
	st.hub.accounts.leave(st.account)
	st.account = nil
}
