package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/kept"
)

// Options are what a Member is made of.
type Options struct {
	Store Store
	Host  Host
	// Name, Addr, Admin and Version stand in the registration.
	Name    string
	Addr    string
	Admin   string
	Version string
	Log     *slog.Logger // nil: none
	// Now is a clock that counts suspends, the one that the host reads, too (nil:
	// kept.Now), and Wall the time of day (nil: time.Now).
	Now  func() time.Duration
	Wall func() time.Time
}

// A Member is a process's part in a cluster. Its work is done in three steps that are
// made again and again, each by a goroutine of its own in Run, and by tests without
// one: beat (beat.go), look (balance.go) and move (move.go).
type Member struct {
	opts Options
	conf Conf

	// What the host asks in each turn.
	right atomic.Int64
	ceil  atomic.Uint64

	// adopting is held while the host is told something, so that it is told in order.
	// It is taken before mu.
	adopting sync.Mutex

	mu       sync.Mutex // guards what follows
	life     uint64     // how many registrations there were: replies to an earlier one's requests are not used
	value    Node       // what stands in the store, as far as is known
	joined   bool       // value stands there; else it is what is being registered
	pending  *Node      // what is to follow it: kept over time-outs
	first    time.Duration
	known    *Map // adopted
	view     *View
	peers    string // what the host knows of the nodes, see roster
	highBase uint64 // the highest base and ceil ever seen
	latest   *Map   // the newest map ever known, in earlier lives, too
	leaving  bool
	drift    time.Duration // wall time less Now, at the last beat
	health   Health
	silences *silences
	frozenAt time.Duration
	failures int           // moves that failed in a row
	retry    time.Duration // when the next may be tried
	stop     context.CancelFunc
	stopped  chan struct{}

	beatSoon chan struct{}
	lookSoon chan struct{}
	moveSoon chan *View
	changed  chan struct{} // closed and replaced when a map was adopted
}

// Join reads the cluster's conf, and returns a member that is not registered yet: that
// is what Run does.
func Join(ctx context.Context, opts Options) (*Member, error) {
	if opts.Now == nil {
		opts.Now = kept.Now
	}
	if opts.Wall == nil {
		opts.Wall = time.Now
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case opts.Name == "":
		return nil, errors.New("a node of a cluster needs a name")
	case opts.Addr == "":
		return nil, errors.New("a node of a cluster needs an address where the others reach it")
	}
	v, err := opts.Store.Read(ctx)
	if err != nil {
		return nil, err
	}
	if err := v.Conf.Validate(); err != nil {
		return nil, fmt.Errorf("the cluster's conf: %w", err)
	}
	m := &Member{
		opts: opts, conf: v.Conf, silences: newSilences(v.Conf),
		beatSoon: make(chan struct{}, 1), lookSoon: make(chan struct{}, 1), moveSoon: make(chan *View, 1),
		changed: make(chan struct{}),
	}
	m.drift = m.offset()
	m.reborn()
	return m, nil
}

// Conf is the cluster's.
func (m *Member) Conf() Conf { return m.conf }

// Right is until when, by Options.Now, this process may serve. It is 0 when it may not
// at all, never goes back but to that, and costs one load.
func (m *Member) Right() time.Duration { return time.Duration(m.right.Load()) }

// Ceil is what fencing tokens have to be below to be granted.
func (m *Member) Ceil() uint64 { return m.ceil.Load() }

// Self is the process's ID for now, empty while it is not registered.
func (m *Member) Self() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.joined {
		return ""
	}
	return m.value.ID
}

// View is the newest that was read of the store; nil before the first.
func (m *Member) View() *View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.view
}

// Run registers, and is a member until the context ends, or Leave does. It returns with
// the registration still there, as if the process had died; Leave is the other way. It
// is called once.
func (m *Member) Run(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	m.mu.Lock()
	m.stop, m.stopped = stop, make(chan struct{})
	m.mu.Unlock()
	defer close(m.stopped)
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { m.every(ctx, m.beatSoon, m.beat) })
	all.Go(func() { m.every(ctx, m.lookSoon, m.look) })
	all.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case v := <-m.moveSoon:
				m.rebalance(ctx, v)
			}
		}
	})
	watch := m.opts.Store.Watch(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-watch:
			if !ok {
				watch = nil // it is a convenience
			}
			soon(m.lookSoon)
		}
	}
}

// every makes a step once a beat, sooner if asked to or if the last was for nothing.
func (m *Member) every(ctx context.Context, asked chan struct{}, step func(context.Context) bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-asked:
		}
		begun := time.Now()
		next := m.conf.Beat()
		if !step(ctx) {
			next /= 4
		}
		// From its begin: an answer that takes its time does not make beats rarer. No
		// sooner than that is reasonable, though.
		timer.Reset(max(next-time.Since(begun), m.conf.Beat()/8))
	}
}

func soon(asked chan struct{}) {
	select {
	case asked <- struct{}{}:
	default:
	}
}

// brief bounds one request to the store.
func (m *Member) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, m.conf.Beat())
}

// stamp is what a reply is compared with: as of when its request was sent.
type stamp struct {
	life  uint64
	known *Map
	sent  time.Duration
}

func (m *Member) stamp() stamp {
	m.mu.Lock()
	defer m.mu.Unlock()
	return stamp{m.life, m.known, m.opts.Now()}
}

// saw takes in what a reply has shown. It returns false if that is not to be used: the
// request was an earlier registration's, or the store was restored from a snapshot, and
// everything has been dropped for that.
func (m *Member) saw(at stamp, v *View) bool {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	m.mu.Lock()
	if at.life != m.life {
		m.mu.Unlock()
		return false
	}
	// What was known before the request was sent was there then: so a store that shows
	// less, or another history, has lost something.
	if k := at.known; k != nil && (v.Map.Version < k.Version || v.Map.Version == k.Version && !v.Map.same(k)) {
		m.health.Rewinds++
		m.mu.Unlock()
		m.opts.Log.Error("The cluster's store was restored from an earlier state: dropping everything.", "known", k.Version, "shown", v.Map.Version)
		m.deposedLocked()
		return false
	}
	m.highBase = max(m.highBase, v.Map.Base)
	for i := range v.Nodes {
		m.highBase = max(m.highBase, v.Nodes[i].Ceil)
	}
	if m.known != nil && v.Map.Version < m.known.Version {
		m.mu.Unlock()
		return true // an answer that was on its way for longer than another
	}
	m.view = v
	if m.isBehindLocked(v.Map) {
		m.mu.Unlock()
		return true // until somebody has raised it
	}
	newer, peers, self := m.known == nil || m.known.Version < v.Map.Version, roster(v.Nodes), m.value.ID
	if !newer && peers == m.peers || v.Node(self) == nil {
		m.mu.Unlock()
		return true
	}
	if newer {
		m.known, m.latest = v.Map, v.Map
	}
	m.peers = peers
	known := m.known
	m.mu.Unlock()
	m.opts.Host.Adopt(self, known, v.Nodes)
	if newer {
		m.mu.Lock()
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
		soon(m.beatSoon) // the others wait for us to have it
	}
	return true
}

// isBehindLocked tells whether a map is of a store that was restored since a newer one was known, or
// another one of the same version. The host is never shown an older one, whose versions have meant
// something else, and may be among what nodes say to each other still.
func (m *Member) isBehindLocked(of *Map) bool {
	n := m.latest
	return n != nil && (of.Version < n.Version || of.Version == n.Version && !of.same(n))
}

// raise returns the change that makes a restored map the newest of all; not ok if it is that.
func (m *Member) raise(v *View, self string) (c Change, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.isBehindLocked(v.Map) {
		return c, false
	}
	next := v.Map.Next()
	next.Version = m.latest.Version + 1
	return Change{Seen: v.Map, Next: next.seal(), Present: []string{self}}, true
}

// roster is what the host is told of nodes: it is not told for each of their beats.
func roster(nodes []Node) string {
	var b []byte
	for _, n := range nodes {
		b = fmt.Appendf(b, "%q %q %q %q %d\n", n.ID, n.Name, n.Addr, n.Admin, n.Protocol)
	}
	return string(b)
}

// deposed drops everything: the registration of the life is lost.
func (m *Member) deposed(life uint64) {
	m.adopting.Lock()
	defer m.adopting.Unlock()
	m.mu.Lock()
	current := m.life == life
	m.mu.Unlock()
	if current {
		m.deposedLocked()
	}
}

// deposedLocked is it with adopting held.
func (m *Member) deposedLocked() {
	m.right.Store(0)
	m.opts.Host.Deposed()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health.Deposed++
	m.opts.Log.Warn("This process has lost its registration in the cluster: all that it had is dropped, and it joins anew.", "id", m.value.ID)
	m.reborn()
	soon(m.beatSoon)
}

// reborn takes a new ID.
func (m *Member) reborn() {
	m.life++
	m.joined, m.pending, m.known, m.view, m.peers = false, nil, nil, nil, ""
	m.value = Node{
		ID: newID(), Name: m.opts.Name, Addr: m.opts.Addr, Admin: m.opts.Admin,
		Version: m.opts.Version, Protocol: Protocol, Leaving: m.leaving,
		Ceil: m.value.Ceil, // below which tokens of the earlier life may have been granted
	}
}

// failed notes what came of a request to the store.
func (m *Member) failed(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failedLocked(err)
}

func (m *Member) failedLocked(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if m.health.LastError != text && text != "" { // why it is so may be found out later
		m.opts.Log.Warn("The cluster's store does not answer.", "error", text)
	} else if m.health.LastError != "" && text == "" {
		m.opts.Log.Info("The cluster's store answers again.")
	}
	m.health.LastError = text
}
