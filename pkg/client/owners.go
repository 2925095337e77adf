package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// In a cluster a Locker asks who serves a name: the nodes tell a map of that, and each has
// connections of its own, which are made when the first request is for it. Until they
// stand, and when they cannot be had, requests go over any connection that does: every node
// takes any client. So a map may be old, or wrong, and nobody waits because of it.
//
// What was gotten over a connection stays with it.

// A routing is where requests go, by the partitions of their names.
type routing struct {
	version int64
	to      [wire.Partitions]*owner // nil: to anybody
}

// An owner is a node, by its address, and the connections to it. Where a Locker's first
// connections lead to that node, there need not be any.
type owner struct {
	l     *Locker
	addr  string
	to    target
	lines []line
}

// A line is a connection to an owner, or the place for one.
type line struct {
	mux  atomic.Pointer[mux] // nil: there is none now
	busy atomic.Bool         // somebody sees to it
	next atomic.Int64        // when the next attempt to connect may be, after the Locker's beginning

	backoff backoff // of who sees to it
}

// errUnneeded ends a connection to a node that serves nothing any more, or to which there is
// another one.
var errUnneeded = errors.New("the connection is not needed any more")

// mayMap tells whether a Locker goes by maps that it is told over a connection to a target.
// The addresses in them are for TCP and TLS, and nobody who has been told to use TLS shall
// do without.
func (l *Locker) mayMap(to target) bool {
	return !l.opts.NoMap && l.opts.Dial == nil && to.network == "tcp"
}

// targetOf returns where a node is reached, if it is to be reached there at all.
func targetOf(addr string, secure bool) (target, bool) {
	to, err := parseTarget(addr)
	return to, err == nil && to.network == "tcp" && to.secure == secure
}

// route returns the connection for a request, if it is not any.
func (l *Locker) route(v *verb, name string) *mux {
	r := l.routing.Load()
	if r == nil || !v.named {
		return nil
	}
	if o := r.to[wire.PartitionOf(name)]; o != nil {
		return o.connection()
	}
	return nil
}

// leadsTo tells whether a mux is connected to the node with an address.
func (m *mux) leadsTo(addr string) bool {
	a := m.atlas.Load()
	return a != nil && a.self == addr
}

func (m *mux) isUsable() bool { return m.err() == nil && !m.isRetired() }

// connection returns one to the node, or nil: then one is made for those who come later.
func (o *owner) connection() *mux {
	for i := range o.l.muxes {
		if m := o.l.muxes[i].Load(); m != nil && m.leadsTo(o.addr) && m.isUsable() {
			return m
		}
	}
	n, i := len(o.lines), 0
	if n > 1 {
		i = rand.IntN(n)
	}
	for k := range n {
		line := &o.lines[(i+k)%n]
		if m := line.mux.Load(); m != nil && m.isUsable() {
			return m
		}
		if k == 0 {
			o.want(line)
		}
	}
	return nil
}

// standing returns any connection to an owner that stands, or nil.
func (l *Locker) standingOwner() *mux {
	r := l.routing.Load()
	if r == nil {
		return nil
	}
	from := rand.IntN(len(r.to))
	var last *owner
	for p := range r.to {
		o := r.to[(from+p)%len(r.to)]
		if o == nil || o == last {
			continue
		}
		last = o
		for i := range o.lines {
			if m := o.lines[i].mux.Load(); m != nil && m.isUsable() {
				return m
			}
		}
	}
	return nil
}

// want has a connection be made, if it is time for that and nobody does it already.
func (o *owner) want(of *line) {
	l := o.l
	if of.busy.Load() || time.Since(l.begun) < time.Duration(of.next.Load()) || !of.busy.CompareAndSwap(false, true) {
		return
	}
	if !l.goes(func() { o.connect(of) }) {
		of.busy.Store(false)
	}
}

// goes starts a goroutine of the Locker's, unless that is closed.
func (l *Locker) goes(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return false
	}
	l.ended.Go(f)
	return true
}

// connect makes a connection, and uses it until it ends, or its server grants nothing any
// more. Another one is made when somebody needs it.
func (o *owner) connect(of *line) {
	l := o.l
	begun := time.Now()
	m, err := l.connectTo(l.ctx, o.to)
	if err == nil && m.atlas.Load() == nil {
		m.discard() // it is none of the cluster
		err = errUnneeded
	}
	news := l.newsOf(o.to)
	made := err == nil
	if made {
		m.of = o
		err = l.serve(&of.mux, m, news)
		of.backoff.stood(time.Since(begun))
	}
	pause := of.backoff.pause()
	of.next.Store(int64(time.Since(l.begun) + pause))
	of.busy.Store(false)
	switch {
	case l.ctx.Err() != nil || errors.Is(err, errUnneeded):
	case err == ErrShuttingDown:
		if o.isNeeded() {
			news.retired(pause)
		}
	case made:
		news.lost(err, pause)
	default:
		news.failed(err, pause, 0)
	}
}

// discard ends a mux that was never used.
func (m *mux) discard() {
	m.leave(errUnneeded)
	m.fail()
	if m.leaving {
		m.transport.sendLines(m.out)
		m.transport.close()
	}
}

// newsOf is for connections to owners: nobody waits for them, so nobody has to be told but a
// log that wants to know.
func (l *Locker) newsOf(to target) *news {
	return &news{log: l.opts.Logger, target: to.String(), silent: true}
}

// isNeeded tells whether the node serves something, and no other connection leads to it.
func (o *owner) isNeeded() bool {
	r := o.l.routing.Load()
	if r == nil || !slices.Contains(r.to[:], o) {
		return false
	}
	for i := range o.l.muxes {
		if m := o.l.muxes[i].Load(); m != nil && m.leadsTo(o.addr) && m.isUsable() {
			return false
		}
	}
	return true
}

// learn has requests go by the newest of the maps that nodes have told over connections that
// stand. One that is newer than all others is forgotten with the connections to those who
// had it: a cluster whose store was restored begins with an earlier one.
func (l *Locker) learn() {
	l.learning.Lock()
	defer l.learning.Unlock()
	var newest *atlas
	var from *mux
	look := func(m *mux) {
		if m == nil || m.err() != nil {
			return
		}
		if a := m.atlas.Load(); a != nil && (newest == nil || a.version > newest.version) {
			newest, from = a, m
		}
	}
	for i := range l.muxes {
		look(l.muxes[i].Load())
	}
	for _, o := range l.owners {
		for i := range o.lines {
			look(o.lines[i].mux.Load())
		}
	}
	if newest == nil || newest == l.learned {
		return
	}
	l.learned = newest
	owners := make(map[string]*owner)
	of := make([]*owner, len(newest.addrs))
	for i, addr := range newest.addrs {
		to, ok := targetOf(addr, from.secure)
		if !ok {
			continue
		}
		o := l.owners[addr]
		if o == nil {
			o = &owner{l: l, addr: addr, to: to, lines: make([]line, l.opts.Connections)}
			for i := range o.lines {
				o.lines[i].backoff = newBackoff(&l.opts)
			}
		}
		owners[addr], of[i] = o, o
	}
	for addr, o := range l.owners {
		if owners[addr] == nil && o.isBusy() {
			owners[addr] = o // until its connections have ended
		}
	}
	l.owners = owners
	r := &routing{version: newest.version}
	for p, i := range newest.owner {
		if i != nowhere {
			r.to[p] = of[i]
		}
	}
	l.routing.Store(r)
}

// isBusy tells whether there are connections, or are about to be.
func (o *owner) isBusy() bool {
	for i := range o.lines {
		if o.lines[i].busy.Load() {
			return true
		}
	}
	return false
}

// others returns where what is kept may be found that cannot be had at a target.
func (l *Locker) others(but target) targets {
	all := l.targets.without(but)
	if r := l.routing.Load(); r != nil {
		for _, o := range r.to {
			if o != nil && o.to != but && !slices.Contains(all, o.to) {
				all = append(all, o.to)
			}
		}
	}
	return all
}

// mapSpread is within which time those ask that are told of a newer map at the same moment.
const mapSpread = time.Second

// reread asks for a map once more, as there is a newer one.
func (l *Locker) reread(m *mux) {
	if m.rereads.Swap(true) {
		return
	}
	if !l.goes(func() { l.rereadNow(m) }) {
		m.rereads.Store(false)
	}
}

func (l *Locker) rereadNow(m *mux) {
	for {
		if !sleep(m.ctx, rand.N(l.opts.mapSpread)) {
			return
		}
		m.rereads.Store(false) // who tells of one from now on means one more
		a := newAtlas()
		all := newLines(l.opts.MaxReply, nil)
		s, err := m.start(readMap, arguments{lines: all}, "")
		switch {
		case err == nil:
		case err == ErrTooManySessions && !m.rereads.Swap(true):
			continue
		default:
			return
		}
		if m.wait(l.ctx, s) != nil || m.err() != nil {
			return
		}
		a.version, err = s.n, s.err
		m.put(s)
		if err == nil {
			err = all.passOn(func(line []byte) error { return a.add(string(line)) })
		}
		if err == nil {
			m.atlas.Store(a)
			l.learn()
		}
		return
	}
}

// sleep returns false if the context has ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// idleLocked tells whether nobody uses the mux, and nothing is held.
func (m *mux) idleLocked() bool {
	return !m.down && m.made-1-len(m.unused) == len(m.free) && (m.keeping == nil || len(m.keeping.forgotten) == 0)
}

// giveUpSession ends a session that may hold something, as it could not be released for now:
// the server sees to that.
func (m *mux) giveUpSession(s *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err() != nil {
		return
	}
	s.lock = nil
	if m.down {
		m.forgetLocked(s)
		return
	}
	m.tellLocked(s, bye)
}
