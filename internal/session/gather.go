package session

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// What a node says of the whole cluster: who holds what, who is there, what was lost. What
// is about one name is asked of who serves it. For the rest each node is asked, one after
// another, what it has itself, over a connection of its own (see linked.go), so that a list
// that nobody reads is in nobody's way; what it says is given out as it comes. When one
// cannot be asked, the end of the reply says so.

// gatherReply is such a reply.
type gatherReply struct {
	session *Session
	command *command
	request []byte
	only    []byte // the name whose owner is asked; nil: all are
	prefix  string // of the names that the client may know of

	own     longReply // what the node has itself, which comes first; nil: it is given out
	left    []*Upstream
	asks    *Upstream // who is asked
	from    *nodePart // what it says; nil: nobody is asked
	again   bool      // it does not serve the name: who does is to be asked
	since   uint64    // when the first was asked, in milliseconds of the hub's clock
	missing []string  // who could not be asked
	refused bool      // there is no point in a rest
	found   bool      // of `kick`
	sums    map[string]uint64

	// Of a map.
	name    []byte
	ownLast bool // what the node has itself is still to come
	headed  bool // its beginning is given out
	begun   bool // what a node says of it has begun
	some    bool // there was an entry
	cut     bool // the connection is to end
}

// gather answers what is about all that there is, or about a name.
func (s *Session) gather(c *command, name, out []byte) (_ []byte, done bool) {
	n, st := s.hub.node, s.stream
	if c.verb == wire.Kick { // which asks the others when it has not found the client here
		return c.do(s, name, out), true
	}
	if c.verb == wire.Look || len(name) > 0 && (c.verb == wire.Dump || c.verb == wire.DumpShared) {
		p, to := n.partitionOf(name)
		if to != nil {
			return s.list(s.newGather(c, name, to), out), true
		}
		if !st.turn.serves(n) || s.hub.locks.Partition(p) == shard.PartitionAbsent {
			n.again(s)
			return out, false
		}
		return c.do(s, name, out), true
	}
	l := s.newGather(c, name, nil)
	if aboutLocks(c) && !st.turn.serves(n) {
		l.missing = append(l.missing, n.cfg.Name)
	}
	if c.verb == wire.DumpMap {
		// A part of a map would look like all of it. So who is most likely to be away is
		// asked first, and nothing is said before there is an answer.
		if len(l.missing) > 0 || slices.ContainsFunc(l.left, func(u *Upstream) bool { return u.live.Load() == 0 }) {
			n.unavailable.Add(1)
			return s.reply(out, 0, wire.Unavailable, []byte(c.verb)), true
		}
		slices.SortStableFunc(l.left, func(a, b *Upstream) int { return cmp.Compare(a.deadline(), b.deadline()) })
		l.name, l.ownLast = slices.Clone(name), true
		return s.list(l, out), true
	}
	if len(l.missing) > 0 {
		return s.list(l, out), true
	}
	out = c.do(s, name, out)
	if st.long != nil {
		l.own = st.long
		if c.verb == wire.Query {
			l.own, l.sums = nil, make(map[string]uint64)
			for _, one := range s.hub.Counters() {
				l.sums[one.Name] = one.Value
			}
		}
		st.long = l
	}
	return out, true
}

// aboutLocks tells whether a list is of what the node serves, and not of its clients.
func aboutLocks(c *command) bool {
	switch c.verb {
	case wire.Who, wire.Query, wire.Losses, wire.Kick:
		return false
	}
	return true
}

// newGather makes such a reply: of who serves a name, or of all other nodes.
func (s *Session) newGather(c *command, name []byte, to *Upstream) *gatherReply {
	n := s.hub.node
	l := &gatherReply{
		session: s, command: c, request: appendRequest(nil, c, s.args(), name), since: s.hub.clock.milliseconds(),
	}
	if to != nil {
		l.only, l.left = slices.Clone(name), []*Upstream{to}
		return l
	}
	if a := s.stream.Access(); a != nil && c.verb == wire.Losses {
		l.prefix = a.Prefix
	}
	l.left = n.others()
	if aboutLocks(c) && slices.Contains(n.routes.Load().to[:], n.nobody) {
		l.missing = append(l.missing, nobodysName)
	}
	return l
}

// nobodysName stands for the partitions that nobody serves now, among those who could not be asked.
const nobodysName = "?"

// others are the links to all other nodes, in the order of their names.
func (n *node) others() []*Upstream {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.links), func(a, b *Upstream) int {
		return strings.Compare(a.peer.Name+" "+a.peer.ID, b.peer.Name+" "+b.peer.ID)
	})
}

func (l *gatherReply) next(out []byte) (_ []byte, more bool) {
	s := l.session
	switch {
	case l.own != nil:
		if out, more = l.own.next(out); more {
			return out, true
		}
		if m, ok := l.own.(*mapReply); ok {
			l.some = m.some
			out = bytes.TrimSuffix(out, []byte(mapEnd))
		} else if s.stream.multiplexed || endsAlways(l.command) {
			out = out[:len(out)-len(s.prefix(nil))-len(wire.End)]
		}
		l.own.close()
		l.own = nil
		return out, true
	case l.from != nil:
		return l.take(out), true
	case l.cut:
		return out, false
	case l.again:
		return l.goOn(out)
	case len(l.left) > 0 && !l.found:
		l.asks, l.left = l.left[0], l.left[1:]
		l.ask()
		return out, true
	case l.ownLast:
		l.ownLast, s.stream.long = false, nil
		mark := len(out)
		out = l.command.do(s, l.name, out)
		m, ok := s.stream.long.(*mapReply)
		s.stream.long = l
		switch {
		case ok:
			if l.headed {
				out = out[:mark]
			}
			m.some, l.headed, l.own = l.some, true, m
			return out, true
		case l.headed: // there is no memory for it
			out = out[:mark]
			l.cuts()
		}
		return out, false
	}
	return l.finish(out), false
}

const mapEnd = "]\n"

// endsAlways tells whether a list has an end in protocol 1, too.
func endsAlways(c *command) bool {
	switch c.verb {
	case wire.Look, wire.LookAll, wire.Losses:
		return true
	}
	return false
}

// ask asks the next node.
func (l *gatherReply) ask() {
	s, u := l.session, l.asks
	l.from = &nodePart{stream: s.stream, whole: l.command.verb == wire.DumpMap}
	l.from.room.L = &l.from.mu
	if u == u.node.nobody || u.live.Load() == 0 && !s.stream.multiplexed {
		l.from.Fail()
		return
	}
	l.from.begin(u, u.node.introduction(u, s.peer.addr()), l.request)
}

// introduction is how a connection begins over which a node asks, for a client of its own,
// what another one has itself.
func (n *node) introduction(u *Upstream, client string) string {
	return wire.Link + " " + n.cfg.World + " " + n.from() + " " + u.peer.ID + " " + client
}

// take gives out what has come.
func (l *gatherReply) take(out []byte) []byte {
	p := l.from
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case l.command.verb == wire.DumpMap:
		out = l.takeMap(out)
	default:
		whole := bytes.LastIndexByte(p.buffer, '\n') + 1
		for line := range bytes.Lines(p.buffer[:whole]) {
			out = l.takeLine(out, line)
		}
		p.buffer = append(p.buffer[:0], p.buffer[whole:]...)
	}
	p.room.Signal()
	if !p.done {
		if len(p.buffer) == 0 {
			l.session.stream.pause(censusLook) // it was hurried
		}
		return out
	}
	if p.failed {
		l.misses()
	}
	l.from = nil
	return out
}

// misses notes that who is asked has not answered, or not all.
func (l *gatherReply) misses() {
	if l.headed && l.command.verb == wire.DumpMap {
		l.cuts()
		return
	}
	l.missing = append(l.missing, l.asks.peer.Name)
	if l.command.verb == wire.DumpMap {
		l.left, l.ownLast = nil, false
	}
}

// cuts ends the client's connection behind a part of a map, as nobody could tell that it is
// not all.
func (l *gatherReply) cuts() {
	l.cut = true
	if c := l.session.stream.carriedBy(); c != nil {
		l.session.hub.network.Detach(c)
	}
}

// takeLine gives out a line.
func (l *gatherReply) takeLine(out, line []byte) []byte {
	s := l.session
	item, ok := bytes.CutPrefix(line, []byte(wire.Item))
	switch {
	case !ok:
		l.ends(line)
	case l.sums != nil:
		key, value, _ := strings.Cut(strings.TrimSuffix(string(item), "\n"), ": ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			l.sums[key] += n
		}
	case l.prefix == "" || bytes.HasPrefix(item, []byte(l.prefix)):
		return append(s.item(out), item...)
	}
	return out
}

// ends takes the last line of what a node says.
func (l *gatherReply) ends(line []byte) {
	number, text, _ := wire.Number(line)
	switch {
	case string(line) == wire.End:
	case l.command.verb == wire.Kick && number > 0:
		l.found = true
	case l.command.verb == wire.Kick && bytes.HasPrefix(text, []byte(wire.NoSuchClient)):
	case l.only != nil && bytes.HasPrefix(text, []byte(wire.Elsewhere)):
		l.again = true
	default:
		l.from.failed = true
	}
}

// takeMap gives out what is between the brackets of a map.
func (l *gatherReply) takeMap(out []byte) []byte {
	const begin = "1 map["
	p := l.from
	if !l.begun {
		if len(p.buffer) < len(begin) && !p.done {
			return out
		}
		rest, ok := bytes.CutPrefix(p.buffer, []byte(begin))
		if !ok {
			p.done, p.failed, p.buffer = true, true, nil
			return out
		}
		p.buffer, l.begun = rest, true
		if !l.headed {
			l.headed = true
			if s := l.session; s.stream.multiplexed {
				out = append(s.prefix(out), "1 "...)
			}
			out = append(out, "map["...)
		}
	}
	n := max(0, len(p.buffer)-len(mapEnd))
	part := p.buffer[:n]
	if len(part) > 0 {
		if l.some && !p.some {
			out = append(out, ' ')
		}
		l.some, p.some = true, true
		out = append(out, part...)
	}
	p.buffer = append([]byte(nil), p.buffer[n:]...)
	if p.done {
		p.failed = p.failed || string(p.buffer) != mapEnd
		l.begun, p.buffer = false, nil
	}
	return out
}

// goOn asks who serves the name by now.
func (l *gatherReply) goOn(out []byte) (_ []byte, more bool) {
	s := l.session
	n := s.hub.node
	if s.hub.clock.milliseconds()-l.since > s.patienceFor(l.command) {
		l.missing, l.again = append(l.missing, l.asks.peer.Name), false
		return out, true
	}
	p, to := n.partitionOf(l.only)
	switch {
	case to == nil && (!s.stream.turn.serves(n) || s.hub.locks.Partition(p) == shard.PartitionAbsent), to == l.asks && !l.refused:
		l.refused = to == l.asks // once more, in a moment
		s.stream.pause(censusLook)
		return out, true
	case to != nil:
		l.again, l.refused, l.asks = false, false, to
		l.ask()
		return out, true
	}
	s.stream.long = nil
	out = l.command.do(s, l.only, out)
	return out, s.stream.long != nil
}

// finish ends the reply.
func (l *gatherReply) finish(out []byte) []byte {
	s := l.session
	if l.sums != nil {
		for _, key := range slices.Sorted(maps.Keys(l.sums)) {
			out = wire.AppendKey(s.item(out), key)
			out = append(strconv.AppendUint(out, l.sums[key], 10), '\n')
		}
	}
	addr := bytes.TrimPrefix(l.request, []byte(wire.Kick+" "))
	switch {
	case l.command.verb == wire.DumpMap && l.headed:
		return append(out, mapEnd...)
	case l.command.verb == wire.DumpMap:
		s.hub.node.unavailable.Add(1)
		return s.reply(out, 0, wire.Unavailable, []byte(l.command.verb))
	case l.found:
		return s.reply(out, 1, wire.Kicked, addr)
	case len(l.missing) > 0:
		s.hub.node.unavailable.Add(1)
		what := []byte(strings.Join(l.missing, ", "))
		if l.only != nil {
			what = l.only
		}
		return s.incomplete(l.command, out, what)
	case l.command.verb == wire.Kick:
		return s.reply(out, 0, wire.NoSuchClient, addr)
	case s.stream.multiplexed || endsAlways(l.command):
		return append(s.prefix(out), wire.End...)
	}
	return out
}

// incomplete ends a list of which something is missing. In protocol 1 the older lists have no
// end, and clients take lines for locks by the colon in them: so there is none.
func (s *Session) incomplete(c *command, out, what []byte) []byte {
	if !s.stream.multiplexed && c.flags&lists != 0 && !endsAlways(c) {
		text := strings.ReplaceAll(string(what), ":", "?")
		return append(out, "0 "+strings.TrimSuffix(wire.Unavailable, ": ")+" ("+text+")\n"...)
	}
	return s.reply(out, 0, wire.Unavailable, what)
}

func (l *gatherReply) queued() bool {
	switch {
	case l.own != nil:
		q, ok := l.own.(queued)
		return ok && q.queued()
	case l.from != nil:
		return l.from.queued()
	}
	return false
}

func (l *gatherReply) hurry() {
	if q, ok := l.own.(queued); ok {
		q.hurry()
	} else if l.from != nil {
		l.from.hurry()
	}
}

func (l *gatherReply) rest() {
	if l.own != nil {
		l.own.rest()
	}
}

func (l *gatherReply) keeps() (n int) {
	if l.own != nil {
		n = l.own.keeps()
	}
	if l.from != nil {
		n += l.from.keeps()
	}
	return n
}

func (l *gatherReply) close() {
	if l.own != nil {
		l.own.close()
	}
	if l.from != nil {
		l.from.close()
	}
}

// nodePart is what one node says. What comes is given out as the client reads it, and no
// more is taken from the node meanwhile.
type nodePart struct {
	stream *Stream
	whole  bool // it is one line, which may be long
	some   bool // of it something was given out

	mu      sync.Mutex // guards what follows
	cancel  func()     // nil: it has not begun
	room    sync.Cond
	buffer  []byte
	within  bool // a line has begun
	last    bool // it is the last one
	done    bool
	failed  bool
	closed  bool
	hurried bool
}

// begin asks.
func (p *nodePart) begin(u *Upstream, introduction string, request []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cancel = u.cfg.Relay(introduction, request, p)
}

// Take implements Relay.
func (p *nodePart) Take(part []byte) (more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.buffer) >= relayBytes && !p.closed && (p.whole || bytes.IndexByte(p.buffer, '\n') >= 0) {
		p.room.Wait()
	}
	if !p.within {
		p.last = !bytes.HasPrefix(part, []byte(wire.Item))
	}
	ends := len(part) > 0 && part[len(part)-1] == '\n'
	p.within = !ends
	p.buffer = append(p.buffer, part...)
	p.done = ends && p.last
	p.stream.wake()
	return !p.done && !p.closed
}

// Fail implements Relay.
func (p *nodePart) Fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.done {
		p.done, p.failed = true, true
		p.stream.wake()
	}
}

func (p *nodePart) queued() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.hurried && !p.done && len(p.buffer) < pieceBytes // a short reply leaves in one write
}

func (p *nodePart) hurry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hurried = true
}

func (p *nodePart) keeps() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cap(p.buffer)
}

func (p *nodePart) close() {
	p.mu.Lock()
	p.closed = true
	p.room.Signal()
	cancel := p.cancel
	p.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// linkedCounts counts the requests that came over links: they are counted where their
// clients are, too, and `q` tells of those alone.
type linkedCounts [maxCommands]atomic.Uint64
