package session

import (
	"cmp"
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
	// Flush has what Take returns sent soon, Cut ends the connection, and End has no other
	// one made, which only a node needs. None blocks; any goroutine calls them.
	Flush func()
	Cut   func()
	End   func()
	// Relay makes a request over a connection of its own, and returns what ends that. If
	// there is an introduction, that is a request which has to succeed first.
	Relay func(introduction string, request []byte, to Relay) (cancel func())
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
	locks   *shard.Set // follows what clients hold there, see shard.Set.Note
	node    *node      // whose link to another node it is; nil: it is a proxy's
	peer    Peer       // that one
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
	mine   []own  // what session 0 has asked
	key    string
	pinged time.Duration
	began  time.Duration // when the connection has, whose requests are not sent yet; 0: there is none

	ends sync.Mutex // has who gives up; comes before all others

	numbers   numbering                // of a proxy's sessions
	gone      atomic.Bool              // the other node is
	evicted   atomic.Pointer[eviction] // nil: it has lost no partition, or all who hold something have followed
	pass      pass                     // of who has all be claimed elsewhere that is to be, see follow
	strays    atomic.Bool              // somebody has got something since that began which is to be claimed elsewhere
	announced atomic.Uint64            // the version of the map by which the other node was told that all is claimed
	answered  atomic.Uint64            // of those

	served atomic.Uint64 // connections that served
	given  atomic.Uint64 // requests that were answered here, as they were not there
	ended  atomic.Uint64 // clients that have lost what they held

	// The rest is its goroutine's that has the connection.
	connection  uint32
	state       upstreamState
	token       string
	partial     []byte
	keeps       time.Duration
	connections uint64 // that there were, of a proxy whose server is a node of a cluster; 0: it is none
	blipsOnly   bool
	replaying   uint32 // the next number whose session is to be taken up; 0: none is

	kick chan struct{} // the look-out
	done chan struct{}
	over sync.WaitGroup
}

// ErrUpstream is that a server can be no proxy's.
type ErrUpstream struct{ Reason string }

func (e *ErrUpstream) Error() string { return e.Reason }

func newUpstream(h *Hub, cfg UpstreamConfig) *Upstream {
	u := makeUpstream(h, cfg)
	u.locks = h.locks
	u.over.Go(u.lookOut)
	return u
}

func makeUpstream(h *Hub, cfg UpstreamConfig) *Upstream {
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	u := &Upstream{hub: h, cfg: cfg, numbers: numbering{next: 1}, kick: make(chan struct{}, 1), done: make(chan struct{})}
	u.all.Store(new([]atomic.Pointer[remote]))
	u.tick.Store(u.ticks())
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

// join has a remote be found by its number, which a proxy's gets here.
func (u *Upstream) join(r *remote) {
	if r.guest == nil {
		r.number = u.numbers.take()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	all := *u.all.Load()
	if int(r.number) >= len(all) {
		more := make([]atomic.Pointer[remote], max(64, 2*len(all), int(r.number)+1))
		for i := range all {
			more[i].Store(all[i].Load())
		}
		all = more
		u.all.Store(&more)
	}
	r.epoch = u.live.Load()
	all[r.number].Store(r)
}

// leave has nobody find it any more, and the number be another one's: upstream has ended
// the session.
func (u *Upstream) leave(r *remote) {
	u.mu.Lock()
	left := !(*u.all.Load())[r.number].CompareAndSwap(r, nil)
	u.mu.Unlock()
	if left {
		return // it had before
	}
	if r.guest == nil {
		u.numbers.give(r.number)
	} else {
		r.guest.gone(r)
	}
}

// end is the number behind all that there are.
func (u *Upstream) end() uint32 { return uint32(len(*u.all.Load())) }

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

// Settled calls f when the other node has executed all that was sent so far, or is away.
func (u *Upstream) Settled(f func()) {
	u.after(f)
	u.cfg.Flush()
}

// Quit says upstream that the proxy ends for good.
func (u *Upstream) Quit() {
	if u.live.Load() != 0 {
		u.ask(wire.Quit, "")
		u.cfg.Flush()
	}
}

// Apart says, before anything is asked, that each reply is a message of its own.
func (st *Stream) Apart() { st.apart = true }
