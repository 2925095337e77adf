package session

import "github.com/nylen/lockd/internal/wire"

// A batch is what a session of a proxy asks upstream in a turn of its stream. It goes out
// together, at the end of the turn, or before anything else is done for the client: so
// that mutexes are taken once for all of it.
type batch struct {
	remote  *remote // whose it is; nil: nothing is asked
	queue   []asking
	text    []byte // the requests, as lines for upstream
	ordered uint64 // how many of them do not wait
	held    bool   // see put
}

// batchBytes is about how long one becomes.
const batchBytes = 4 << 10

// add puts a request behind the others.
func (b *batch) add(r *remote, c *command, n numbers, name []byte) {
	if b.remote != r {
		b.send()
		b.remote = r
	}
	b.queue = append(b.queue, asking{})
	a := &b.queue[len(b.queue)-1]
	b.text = r.appendAsking(b.text, a, c, n, name)
	a.again, a.held = b.held, b.held
	if !a.waits() {
		b.ordered++
	}
	if len(b.text) >= batchBytes {
		b.send()
	}
}

// send puts it into the session's queue, and sends it if upstream is there.
func (b *batch) send() {
	r := b.remote
	if r == nil {
		return
	}
	r.owes(int32(len(b.queue)))
	u := r.up
	u.rouse()
	tick, version := u.tick.Load(), uint32(0)
	if u.node != nil {
		version = uint32(u.node.routes.Load().version)
	}
	r.mu.Lock()
	r.many = r.session.stream.multiplexed
	if r.turned {
		r.turned = false
		r.askLocked(lookup([]byte(wire.GoOn)), numbers{}, nil, asking{silent: true})
	}
	r.makeRoomLocked(len(b.queue))
	at := uint32(len(r.text))
	for i := range b.queue {
		a := &b.queue[i]
		a.tick, a.version, a.from, a.name, a.to = tick, version, a.from+at, a.name+at, a.to+at
	}
	r.queue, r.text = append(r.queue, b.queue...), append(r.text, b.text...)
	u.send(r.epoch, b.text, b.ordered)
	r.weighLocked()
	r.mu.Unlock()
	u.rouse()
	b.remote, b.queue, b.text, b.ordered = nil, b.queue[:0], b.text[:0], 0
}

// askUpstream sends what a session has asked in this turn.
func (st *Stream) askUpstream() {
	if st.turn.asks.remote != nil {
		st.turn.asks.send()
	}
}
