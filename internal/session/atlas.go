package session

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nylen/lockd/internal/wire"
)

// `map`: a node tells its clients who serves what, so that they may ask that node itself.
// Who has asked, and takes notices, is told once when there is a newer map, and asks again:
// so it costs nothing that there are many clients who do not care, and those who do are
// told no more often than they ask.

// An atlas is a map as clients read it. It does not change.
type atlas struct {
	version uint64
	lines   []string // of the nodes, this one first
}

func newAtlas(l *Layout) *atlas {
	parts := make(map[string][]int)
	for p, owner := range l.Owner {
		parts[owner] = append(parts[owner], p)
	}
	a := &atlas{version: l.Version}
	add := func(to Peer) {
		fields := []string{field(to.Addr), field(to.Name), field(to.ID), ranges(parts[to.ID])}
		a.lines = append(a.lines, strings.Join(fields, "\t")+"\n")
	}
	me := l.Me
	me.ID = l.Self
	add(me)
	for _, to := range l.Peers {
		if to.ID != l.Self {
			add(to)
		}
	}
	slices.Sort(a.lines[1:])
	return a
}

// field is a text without what ends a field, or a line.
func field(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}

// ranges writes numbers that grow: `0-340,512`; none are `-`.
func ranges(of []int) string {
	if len(of) == 0 {
		return "-"
	}
	var text []byte
	for i := 0; i < len(of); {
		j := i
		for j+1 < len(of) && of[j+1] == of[j]+1 {
			j++
		}
		if i > 0 {
			text = append(text, ',')
		}
		if text = strconv.AppendInt(text, int64(of[i]), 10); j > i {
			text = strconv.AppendInt(append(text, '-'), int64(of[j]), 10)
		}
		i = j + 1
	}
	return string(text)
}

// same tells whether clients would read the same.
func (a *atlas) same(as *atlas) bool {
	return as != nil && a.version == as.version && slices.Equal(a.lines, as.lines)
}

// publish has clients read a newer map from now on.
func (n *node) publish(l *Layout) {
	if a := newAtlas(l); !a.same(n.atlas.Load()) {
		n.readers.mu.Lock()
		n.atlas.Store(a)
		n.readers.newer = true
		n.readers.mu.Unlock()
	}
}

// readers are streams whose clients want to be told of the next map, with the one that each has read.
type readers struct {
	mu      sync.Mutex // guards what follows; it is taken before a stream's
	newer   bool       // there is one of which nobody is told yet
	all     map[*Stream]*atlas
	telling map[*Stream]*atlas // those that are being told
}

// read returns the map, and has a stream be told of the next one: of this one it need not be any more.
func (n *node) read(st *Stream) *atlas {
	r := &n.readers
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all = make(map[*Stream]*atlas)
	}
	a := n.atlas.Load()
	r.all[st] = a
	delete(r.telling, st)
	st.outdated.Store(false)
	return a
}

// forget drops a stream that ends.
func (r *readers) forget(st *Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, st)
	delete(r.telling, st)
}

// toldAtOnce is how many clients are told before others may come and go.
const toldAtOnce = 256

// tellReaders has all be told that there is a newer map. The look-out calls it.
func (n *node) tellReaders() {
	for n.tellSome() {
	}
}

func (n *node) tellSome() (more bool) {
	r := &n.readers
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.telling) == 0 {
		if !r.newer || len(r.all) == 0 {
			r.newer = false
			return false
		}
		r.newer, r.telling, r.all = false, r.all, make(map[*Stream]*atlas)
	}
	latest, left := n.atlas.Load(), toldAtOnce
	for st, a := range r.telling {
		if left--; left < 0 {
			return true
		}
		delete(r.telling, st)
		if a == latest { // it has come since there is this one
			r.all[st] = a
			continue
		}
		st.outdated.Store(true)
		st.post(&st.main)
	}
	r.telling = nil
	return r.newer
}

// tellMap appends the notice of a newer map, if the client is to be told.
func (st *Stream) tellMap(out []byte) []byte {
	if !st.outdated.Swap(false) || !st.notices.Load() {
		return out
	}
	out = append(st.main.notice(out), wire.NewMap...)
	return append(strconv.AppendUint(out, st.hub.node.atlas.Load().version, 10), '\n')
}

// MapVersion is the version of the map that clients read; 0: there is none yet, or the hub
// is no node's.
func (h *Hub) MapVersion() uint64 {
	if h.node == nil {
		return 0
	}
	if a := h.node.atlas.Load(); a != nil {
		return a.version
	}
	return 0
}

func (s *Session) textMap(_, out []byte) []byte {
	n, st := s.hub.node, s.stream
	if n == nil {
		return s.reply(out, 0, wire.NoCluster, []byte(wire.Map))
	}
	a := n.atlas.Load()
	if st.notices.Load() {
		st.reads = true
		a = n.read(st)
	}
	if a == nil {
		return s.reply(out, 0, wire.Unavailable, []byte(wire.Map))
	}
	return s.list(&atlasReply{session: s, atlas: a}, out)
}

// unread forgets that the client has read a map.
func (st *Stream) unread() {
	if st.reads {
		st.hub.node.readers.forget(st)
	}
}

// atlasReply is the reply to `map`.
type atlasReply struct {
	session *Session
	atlas   *atlas
	done    int // lines
}

func (l *atlasReply) next(out []byte) ([]byte, bool) {
	for limit := len(out) + l.session.hub.pieceBytes(); l.done < len(l.atlas.lines); l.done++ {
		if len(out) >= limit {
			return out, true
		}
		out = append(l.session.item(out), l.atlas.lines[l.done]...)
	}
	return wire.AppendReply(l.session.prefix(out), l.atlas.version, wire.EndOf, nil), false
}

func (*atlasReply) rest()      {}
func (*atlasReply) keeps() int { return 0 }
func (*atlasReply) close()     {}
