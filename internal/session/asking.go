package session

import (
	"strconv"
	"sync"

	"github.com/nylen/lockd/internal/wire"
)

// The queue of a remote: what it has asked, and is not answered yet.

// An asking is a request that was sent, or is to be.
type asking struct {
	command        *command
	from, name, to uint32 // in text: all of it, and the name
	tick           uint32 // when
	version        uint32 // of the map that was known then, of a node's
	again          bool   // once more, over another connection
	silent         bool   // it is not the client's
	told           bool   // the client has had an answer that was not upstream's
	literal        bool   // no request, but a reply that was made here
	probe          bool   // whatever it is, upstream is asked for a sign of life
	held           bool   // a release of what the session held
	moved          bool   // a claim of what it held elsewhere
	parked         bool   // a wait of an earlier connection, which was not taken up yet
}

// What a remote takes, about, and how much of its queue is kept when it is empty.
const (
	remoteBytes = 352
	askingBytes = 40
	keptAsking  = 256
)

// A largeRoom is room for the requests of a client that sends many at a time. They are
// used again: an idle client has none.
type largeRoom struct {
	queue []asking
	text  []byte
}

var largeRooms = sync.Pool{New: func() any {
	return &largeRoom{make([]asking, 0, 128), make([]byte, 0, 4096)}
}}

// growLocked has queue and text be in a large room.
func (r *remote) growLocked() {
	if r.large == nil {
		r.large = largeRooms.Get().(*largeRoom)
		r.queue = append(r.large.queue[:0], r.queue...)
		r.text = append(r.large.text[:0], r.text...)
	}
}

// shrinkLocked gives that back when it is empty.
func (r *remote) shrinkLocked() {
	if l := r.large; l != nil {
		if cap(r.queue) <= 1024 && cap(r.text) <= 64<<10 {
			l.queue, l.text = r.queue[:0], r.text[:0] // they may have grown
			largeRooms.Put(l)
		}
		r.large, r.queue, r.text = nil, nil, nil
	}
}

// probe asks upstream for a sign of life, in the place of a request that is answered here:
// while the session waits that has its order among the replies that come then. The
// client gets the sign, or said, if there is that.
func (r *remote) probe(said []byte) {
	r.owes(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probeLocked(said, asking{})
}

func (r *remote) probeLocked(said []byte, a asking) {
	a.command, a.probe, a.from = lookup([]byte(wire.Ping)), true, uint32(len(r.text))
	r.text = append(r.text, said...)
	a.name, a.to = a.from, uint32(len(r.text))
	line := append(appendNumber(nil, uint64(r.number)), wire.Ping+"\n"...)
	r.queueLocked(line, a)
}

// askLocked puts a request into the queue, and sends it if upstream is there.
func (r *remote) askLocked(c *command, n numbers, name []byte, a asking) {
	line := len(r.text)
	r.text = r.appendAsking(r.text, &a, c, n, name)
	r.queueLocked(r.text[line:], a)
}

// appendAsking appends a request to text, as the line that it is upstream, and has a say
// where it is.
func (r *remote) appendAsking(text []byte, a *asking, c *command, n numbers, name []byte) []byte {
	text = appendNumber(text, uint64(r.number))
	a.command, a.from = c, uint32(len(text))
	text = appendRequest(text, c, n, name)
	a.to = uint32(len(text))
	a.name = a.to - uint32(len(name))
	return append(text, '\n')
}

// queueLocked puts one into the queue whose text is there, and sends its line.
func (r *remote) queueLocked(line []byte, a asking) {
	u := r.up
	u.rouse()
	a.tick = u.tick.Load()
	if u.node != nil {
		a.version = uint32(u.node.routes.Load().version)
	}
	r.makeRoomLocked(1)
	r.queue = append(r.queue, a)
	ordered := uint64(1)
	if a.waits() {
		ordered = 0
	}
	u.send(r.epoch, line, ordered)
	r.weighLocked()
	u.rouse()
}

// makeRoomLocked has the queue be where there is room for more, if they are many.
func (r *remote) makeRoomLocked(more int) {
	if len(r.queue)+more > keptAsking/askingBytes {
		r.growLocked()
	}
	if len(r.queue)+more > cap(r.queue) && r.first > 0 {
		n := copy(r.queue, r.queue[r.first:])
		r.queue, r.first = r.queue[:n], 0
	}
}

// appendRequest appends a request, as it was asked for.
func appendRequest(out []byte, c *command, n numbers, name []byte) []byte {
	out = append(out, c.verb...)
	for i := range c.args {
		out = strconv.AppendUint(append(out, ' '), [...]uint64{n.a, n.b, n.c}[i], 10)
	}
	if len(name) > 0 {
		out = append(append(out, ' '), name...)
	}
	return out
}

func (r *remote) nameLocked(a *asking) []byte { return r.text[a.name:a.to] }

func (r *remote) weighLocked() {
	if r.gone {
		return
	}
	n := 2*cap(r.text) + askingBytes*cap(r.queue) + cap(r.out)
	n = min(n, 1<<30)
	if int32(n) == r.bytes.Load() {
		return
	}
	r.session.stream.underWay.Add(int32(n) - r.bytes.Swap(int32(n)))
}

// owes notes that the client is to be answered so many requests more.
func (r *remote) owes(n int32) {
	r.pending.Add(n)
	r.session.stream.unanswered.Add(n)
}

// fitLocked gives back what is not needed when nothing is pending.
func (r *remote) fitLocked() {
	if r.first == len(r.queue) {
		r.queue, r.first, r.text = r.queue[:0], 0, r.text[:0]
		r.shrinkLocked()
		if cap(r.text) > keptAsking {
			r.text = nil
		}
		if cap(r.queue) > keptAsking/askingBytes {
			r.queue = nil
		}
	} else if len(r.text) > 4096 && int(r.queue[r.first].from) > len(r.text)/2 {
		r.packLocked()
	}
	r.weighLocked()
}

// packLocked drops what is answered.
func (r *remote) packLocked() {
	from := r.queue[r.first].from
	n := copy(r.text, r.text[from:])
	r.text = r.text[:n]
	m := copy(r.queue, r.queue[r.first:])
	r.queue, r.first = r.queue[:m], 0
	for i := range r.queue {
		a := &r.queue[i]
		a.from, a.name, a.to = a.from-from, a.name-from, a.to-from
	}
}

// isOpen tells whether it is a request of the client's that the other side has yet to answer.
func (a *asking) isOpen() bool { return !a.told && !a.silent && !a.literal && !a.probe }

// waits tells whether it may be a long time until it is answered.
func (a *asking) waits() bool { return a.command != nil && a.command.flags&mayWait != 0 }
