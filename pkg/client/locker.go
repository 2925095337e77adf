package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/wire"
)

const (
	defaultSessions       = 1<<16 - 1 // a server's default, less session 0
	defaultOldConnections = 64
	defaultLockerTimeout  = 15 * time.Second
	defaultMinBackoff     = 100 * time.Millisecond
	defaultMaxBackoff     = 5 * time.Second
)

// LockerOptions say how a Locker reaches its server. The zero value connects
// to DefaultTarget, once, with defaults for everything.
type LockerOptions struct {
	// Options are those of a Client. ReadTimeout has another meaning here: the
	// server is asked for a sign of life four times in it, and when the last
	// request that it has answered was sent so long ago, the connection is given
	// up, and the locks are reported lost. Zero means 15 seconds. It is three
	// quarters of the server's --dead-peer-timeout at most, for which the Locker
	// asks: so locks are reported lost before a server that cannot reach this
	// client gives them to others. A server that stands still for less than
	// three quarters of it loses none. While the process is stopped no time
	// passes here: it reads what came meanwhile before the server's silence ends
	// the connection. A negative value means that nothing of this is done.
	//
	// MaxLine bounds a whole request: a name may be about 45 bytes shorter.
	Options

	// StopTime is how long whoever works under a lock may take to stop when it is
	// reported lost. Locks are reported lost so much earlier, as far as the
	// server's --dead-peer-timeout leaves a quarter of it for the server's answer.
	StopTime time.Duration

	// Keep is how long a connection may be away before its locks are lost: after a blip
	// of the network, or while the server is restarted, the Locker comes back to what it
	// held, Lock.Lost does not close, and calls wait until it is back, also with FailFast
	// and longer than MaxOutage says. Requests whose answers were lost are made again;
	// only a rate may be charged twice for that.
	//
	// The price is that the locks of a process which is killed are free so much later:
	// it has to Close the Locker to have them free at once.
	//
	// The server is asked for as much that there is StopTime besides, and it may give
	// less, or nothing: see Missing and OnKeep. In the time that it gives a request of
	// this client has to be answered; while the process or the machine stands still it
	// goes on. Zero means that locks are lost with the connection. What is asked for
	// is a day at most.
	Keep time.Duration

	// OnKeep, if not nil, is told what becomes of connections with Keep, one event at a
	// time, in their order. If it takes its time, it delays the next event and nothing
	// else; it must not Close the Locker. What has to stop when a lock is lost, has
	// Lock.Lost to wait for.
	OnKeep func(KeepEvent)

	// Anonymous makes the Locker register no name, in place of ProcessName(), so
	// that the server shows addresses. Notes are shown all the same, see
	// WithNote. It excludes Name.
	Anonymous bool

	// Connections is how many connections share the work. Zero means 1, which
	// is enough for most.
	Connections int

	// Sessions bounds how many locks and calls a connection has at a time;
	// more get ErrTooManySessions. Zero means 65,535, which is what a server
	// allows by default. A session that nobody needs any more is ended after a
	// minute or two.
	Sessions int

	// OldConnections is the same for a server that speaks protocol 1 only:
	// there each lock takes a connection of its own. Zero means 64.
	OldConnections int

	// The pause before the next attempt to connect is random, lest a fleet
	// comes back in step: any time up to MinBackoff, and twice as long after
	// each failure, up to MaxBackoff. Zero means 100 milliseconds and 5
	// seconds. A MaxBackoff that is less than MinBackoff means the same as it.
	// When a connection has stood for longer than MaxBackoff, its end counts
	// as the first failure.
	//
	// The connections that locks take with a server that speaks protocol 1
	// only have one such pause together: after one that could not be made, or
	// was refused, they are tried one at a time, with a pause before each,
	// until one is made, and then two at a time, four and so on.
	MinBackoff, MaxBackoff time.Duration

	// FailFast makes calls return an ErrLost at once while there is no
	// connection, and when theirs ends; only the first attempt to connect is
	// waited for. Otherwise they wait for the next connection until their
	// context ends, or for MaxOutage. With a server that speaks protocol 1
	// only, that goes for the connection that a lock takes, too.
	FailFast bool

	// MaxOutage bounds how long calls wait for a server that is away: when
	// there has been no connection for so long, they return an ErrLost, those
	// that are made later do so at once, and that ends with the next
	// connection. Zero means no bound. FailFast makes it meaningless.
	MaxOutage time.Duration

	// Logger is told when a connection is made, cannot be made, or is lost, a
	// line each. If it is nil, slog.Default() is told about outages in which calls
	// would wait in silence: that the server has not been reached for a second,
	// once a minute as long as that goes on, and when it is over. With FailFast
	// or MaxOutage nobody is, since the calls' errors say it.
	// slog.New(slog.DiscardHandler) keeps quiet whatever happens.
	Logger *slog.Logger

	// NoMap leaves it to the nodes of a cluster to ask each other for what they do not
	// serve themselves. Otherwise the Locker asks who serves a name, over connections to
	// these nodes, each of which is made when it is first needed, and Connections, Sessions,
	// Keep and OnKeep go for each node. Until it stands, or if it cannot be made, requests go
	// over another one. That is so with tcp:// and tls:// targets, without Dial, and as far
	// as nodes are reached within TLS if the target is. Other servers have no map.
	NoMap bool

	clock     func() time.Duration // kept.Now, but in tests
	mapSpread time.Duration        // mapSpread, but in tests
}

func (o *LockerOptions) complete() error {
	switch {
	case o.Anonymous && o.Name != "":
		return errors.New("lockd: LockerOptions.Anonymous and Name are both set")
	case !o.Anonymous && o.Name == "":
		o.Name = ProcessName()
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = defaultLockerTimeout
	}
	for _, n := range []struct {
		value *int
		unset int
		name  string
	}{
		{&o.Connections, 1, "Connections"},
		{&o.Sessions, defaultSessions, "Sessions"},
		{&o.OldConnections, defaultOldConnections, "OldConnections"},
	} {
		if *n.value == 0 {
			*n.value = n.unset
		}
		if *n.value < 0 {
			return fmt.Errorf("lockd: LockerOptions.%s is negative", n.name)
		}
	}
	if int64(o.Sessions) > 1<<32-1 {
		return errors.New("lockd: LockerOptions.Sessions is over 4294967295")
	}
	switch {
	case o.StopTime < 0:
		return errors.New("lockd: LockerOptions.StopTime is negative")
	case o.Keep < 0:
		return errors.New("lockd: LockerOptions.Keep is negative")
	case o.Keep > maxWait || o.Keep > 0 && (o.StopTime > maxWait || kept.Ask(o.Keep, o.StopTime) > maxWait):
		return errors.New("lockd: LockerOptions.Keep, with StopTime and a margin, is longer than a day")
	case o.MinBackoff < 0:
		return errors.New("lockd: LockerOptions.MinBackoff is negative")
	case o.MaxBackoff < 0:
		return errors.New("lockd: LockerOptions.MaxBackoff is negative")
	case o.MaxOutage < 0:
		return errors.New("lockd: LockerOptions.MaxOutage is negative")
	case o.MinBackoff == 0:
		o.MinBackoff = defaultMinBackoff
	}
	if o.MaxBackoff == 0 {
		o.MaxBackoff = defaultMaxBackoff
	}
	o.MaxBackoff = max(o.MaxBackoff, o.MinBackoff)
	if o.Keep > 0 {
		o.markAfter = keptMarkAfter
	}
	if o.clock == nil {
		o.clock = kept.Now
	}
	o.mapSpread = cmp.Or(o.mapSpread, mapSpread)
	if o.FailFast {
		o.MaxOutage = 0
	}
	return nil
}

// Validate returns the error that NewLocker would return for these options,
// without asking the network.
func (o LockerOptions) Validate() error {
	if err := o.complete(); err != nil {
		return err
	}
	return o.Options.Validate()
}

// forever is how long calls wait for a connection if nothing bounds that.
const forever = time.Duration(math.MaxInt64)

// outage is how long calls wait for a connection.
func (o *LockerOptions) outage() time.Duration {
	switch {
	case o.FailFast:
		return 0
	case o.MaxOutage == 0:
		return forever
	}
	return o.MaxOutage
}

// A Locker gets locks for any number of goroutines over one connection, or a
// few. Each lock that it hands out has an owner of its own, so its goroutines
// exclude each other just as they exclude other programs. It is made by
// NewLocker, and all its methods may be called by many goroutines at once.
//
// A Locker needs a server that speaks protocol 2. With an older one it does
// what it can and tells what is missing, see Missing.
type Locker struct {
	opts    LockerOptions
	targets targets
	news    *news
	old     *oldPool
	begun   time.Time

	keepNews *keepNews

	muxes   []atomic.Pointer[mux]   // to any of the targets; nil where there is no connection now
	routing atomic.Pointer[routing] // nil: everything goes over any of these

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	ended sync.WaitGroup // the goroutines that connect and read

	mu      sync.Mutex    // guards what follows
	changed chan struct{} // closes when there is news
	err     error         // why there is no connection; nil: the first is on its way
	down    time.Time     // since when there is none; zero if there is one

	learning sync.Mutex        // guards what follows
	owners   map[string]*owner // by address
	learned  *atlas            // what routing is made of
}

// NewLocker returns a Locker that connects in the background, and again
// whenever the connection is lost, until it is closed. It may be used at once.
// An error means that the options make no sense.
func NewLocker(opts LockerOptions) (*Locker, error) {
	if err := opts.complete(); err != nil {
		return nil, err
	}
	o, all, err := opts.Options.withDefaults()
	if err != nil {
		return nil, err
	}
	opts.Options = o
	l := &Locker{
		opts:    opts,
		targets: all,
		news:    newNews(&opts, all.String()),
		begun:   time.Now(),
		muxes:   make([]atomic.Pointer[mux], opts.Connections),
		changed: make(chan struct{}),
		down:    time.Now(),
		old:     newOldPool(&opts, all),
	}
	l.keepNews = &keepNews{log: opts.Logger, tell: opts.OnKeep, ended: &l.ended}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for i := range l.muxes {
		l.ended.Go(func() { l.run(i) })
	}
	return l, nil
}

// Close ends the connections, and with them every lock that is held. Calls
// under way return ErrClosed. It returns when all of the Locker's goroutines
// have ended, and always nil; closing again does nothing. With LockerOptions.Keep it
// tells the server, so that nothing is kept, and waits for a second at most until that
// is done; when there is no connection then, the locks are free when the server has
// kept them for long enough.
func (l *Locker) Close() error {
	l.mu.Lock() // see goes
	l.stop()
	l.mu.Unlock()
	l.old.close()
	l.ended.Wait()
	return nil
}

// Ready waits for a connection. Nobody has to call it; all calls wait by
// themselves. With FailFast it waits for the first attempt only, and returns
// the ErrLost that came of it.
func (l *Locker) Ready(ctx context.Context) error {
	_, err := l.connection(ctx)
	return err
}

// Missing waits for a connection and tells which features its server is too
// old for: ErrNoWaiting, ErrNoSharedLimits, ErrNoRates, ErrNoTokens, ErrNoLook,
// ErrNoKick, ErrNoDropRate, ErrNoLosses. It has none of these if the server speaks protocol
// 2, which may be too old for the last four all the same. The methods that need one of
// them return that error.
//
// With LockerOptions.Keep it also tells what the server does not give of that: ErrNoKeep,
// or an ErrShortKeep, and ErrBlipsOnly. Another connection may be to a server that does.
func (l *Locker) Missing(ctx context.Context) ([]error, error) {
	m, err := l.connection(ctx)
	switch {
	case err != nil:
		return nil, err
	case !m.old:
		return slices.Clone(m.missing), nil
	}
	old := []error{ErrNoWaiting, ErrNoSharedLimits, ErrNoRates, ErrNoTokens, ErrNoLook, ErrNoKick, ErrNoDropRate, ErrNoLosses}
	return append(old, m.missing...), nil
}

// run keeps one connection up.
func (l *Locker) run(i int) {
	backoff := newBackoff(&l.opts)
	var last target
	for {
		m, err := l.connect(last)
		made := err == nil
		if made {
			begun := time.Now()
			last = m.to
			err = l.serve(&l.muxes[i], m, l.news)
			backoff.stood(time.Since(begun))
		} else {
			l.tell(err)
			if isRefusal(err) {
				backoff.refused()
			}
		}
		if l.ctx.Err() != nil {
			return
		}
		pause := backoff.pause()
		if err == ErrShuttingDown {
			l.news.retired(pause)
		} else if made {
			l.news.lost(err, pause)
		} else {
			l.news.failed(err, pause, l.outage())
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// serve uses a connection until it ends, or its server grants nothing any more, and
// returns why. What is held over it then is held until its end, while another one
// takes its place.
func (l *Locker) serve(place *atomic.Pointer[mux], m *mux, news *news) error {
	if l.opts.Keep > 0 {
		l.keepNews.add(m.to, m.keepBegins())
	}
	place.Store(m)
	if m.reads {
		l.learn()
	}
	l.tell(nil)
	news.connected(m.to.String(), m.protocol())
	var err error
	over := make(chan struct{})
	l.ended.Go(func() {
		defer close(over)
		unhook := context.AfterFunc(l.ctx, func() { m.leave(ErrClosed) })
		defer unhook()
		m.run(func(cause error) {
			err = cause
			if m.keeping != nil && l.ctx.Err() == nil {
				l.keepNews.add(m.to, KeepEvent{Kind: KeepGone, Err: m.err()})
			}
			if place.CompareAndSwap(m, nil) {
				l.tell(cause)
			}
		})
		if m.old {
			l.old.drop()
		}
	})
	select {
	case <-over:
		return err
	case <-m.retired:
		if place.CompareAndSwap(m, nil) {
			l.tell(ErrShuttingDown)
		}
		return ErrShuttingDown
	}
}

// connect connects to one of the targets, to the last one only if it has to.
func (l *Locker) connect(last target) (*mux, error) {
	return reach(l.ctx, l.targets.order(last), l.connectTo, (*mux).discard)
}

func (l *Locker) connectTo(ctx context.Context, to target) (*mux, error) {
	if d := l.opts.ConnectTimeout; d > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, d)
		defer stop()
	}
	t, err := l.opts.connect(ctx, to, forMux)
	if err != nil {
		return nil, err
	}
	g := greeted{asked: time.Now()}
	if l.opts.Keep > 0 {
		g, err = l.keep(ctx, t, to)
	} else {
		g.old, g.told, err = negotiate(ctx, t)
	}
	var told *atlas
	reads := !g.old && g.told.maps && l.mayMap(to)
	if err == nil && reads {
		told, err = readAtlas(ctx, t, g.notices)
		g.notices = true
	}
	if err != nil {
		t.close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: no answer after %v", ErrTimeout, l.opts.ConnectTimeout)
		}
		return nil, err
	}
	m := newMux(t, g.old, &l.opts, g.told, g.asked)
	m.to, m.notices, m.missing = to, g.notices, g.missing
	if m.reads = reads; reads {
		m.secure, m.newMap = to.secure, func() { l.reread(m) }
		m.atlas.Store(told)
	}
	if g.keeping != nil {
		m.startKeeping(g.keeping)
	}
	return m, nil
}

// tell wakes those that wait for a connection.
func (l *Locker) tell(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
	if err == nil {
		l.down = time.Time{}
	} else if l.down.IsZero() && l.standing() == nil {
		l.down = time.Now()
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// outage is for how long there has been no connection.
func (l *Locker) outage() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down.IsZero() {
		return 0
	}
	return time.Since(l.down)
}

// connection returns a connection, any of those that stand. If there is none, it
// waits, unless the server does not know who this is. An error is the last word: that
// the Locker was closed, an ErrLost, or the context's; if that is why there was no
// waiting any longer, both.
func (l *Locker) connection(ctx context.Context) (*mux, error) {
	for {
		if m := l.standing(); m != nil {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("lockd: %w", err)
			}
			return m, nil
		}
		l.mu.Lock()
		changed, cause, down := l.changed, l.err, l.down
		l.mu.Unlock()
		var enough <-chan time.Time
		switch {
		case l.ctx.Err() != nil:
			return nil, ErrClosed
		case l.standing() != nil:
			continue // since a moment, and changed is about the next news
		case isRefusal(cause):
			return nil, cause
		case cause != nil && l.opts.FailFast:
			return nil, lost(cause)
		case !down.IsZero() && l.opts.MaxOutage > 0:
			enough = time.After(time.Until(down.Add(l.opts.MaxOutage)))
		}
		var why error
		select {
		case <-changed:
			continue
		case <-l.ctx.Done():
			continue
		case <-enough:
			why = fmt.Errorf("none for %v", l.opts.MaxOutage)
		case <-ctx.Done():
			why = ctx.Err()
		}
		if cause == nil {
			return nil, lost(fmt.Errorf("not connected yet: %w", why))
		}
		return nil, lost(fmt.Errorf("%w; waiting for the next one: %w", cause, why))
	}
}

// connectionFor returns the one for a request, or any.
func (l *Locker) connectionFor(ctx context.Context, v *verb, name string) (*mux, error) {
	if m := l.route(v, name); m != nil && ctx.Err() == nil {
		return m, nil
	}
	return l.connection(ctx)
}

// standing returns any connection that stands, or nil. Those to targets come first.
func (l *Locker) standing() *mux {
	n, i := len(l.muxes), 0
	if n > 1 {
		i = rand.IntN(n)
	}
	for range n {
		if m := l.muxes[i].Load(); m != nil && m.err() == nil && !m.isRetired() {
			return m
		}
		if i++; i == n {
			i = 0
		}
	}
	return l.standingOwner()
}

// start asks on the given connection, or on any other one that has a session to
// spare.
func (l *Locker) start(m *mux, v *verb, a arguments, name string) (*mux, *session, error) {
	s, err := m.start(v, a, name)
	if err == ErrTooManySessions {
		for i := range l.muxes {
			if m = l.muxes[i].Load(); m == nil || m.old {
				continue
			}
			if s, err = m.start(v, a, name); err != ErrTooManySessions {
				break
			}
		}
	}
	return m, s, err
}

// call asks and waits for the answer, which the caller takes from the session. It
// goes on to another connection when one is lost on the way, if that may be, or
// when the server has no room for sessions there, or is about to end. With an old
// server it returns no session.
func (l *Locker) call(ctx context.Context, v *verb, a arguments, name string, repeat bool) (*mux, *session, error) {
	var ending time.Time // since when servers are that it has asked
	presented := false   // the token, once more
	for {
		m, err := l.connectionFor(ctx, v, name)
		if err != nil || m.old {
			return m, nil, err
		}
		m, s, err := l.start(m, v, a, name)
		sent := err == nil
		if sent {
			if err := m.wait(ctx, s); err != nil {
				return nil, nil, err
			}
			if s.err == ErrTooManySessions {
				m.put(s) // and it asks for no more, see start
				continue
			}
			if s.err == ErrShuttingDown || s.err == ErrRecovering || s.err == ErrUnavailable {
				why := s.err
				m.put(s)
				if ending.IsZero() {
					ending = time.Now()
				}
				itself := why == ErrShuttingDown && !m.reads // else it may be the node that it asks, see notice
				if time.Since(ending) >= l.opts.outage() {
					if itself {
						m.retire()
					}
					if why == ErrShuttingDown {
						why = lost(why)
					}
					return nil, nil, why
				}
				if itself && !m.outlivesServer() {
					m.retire()
					continue
				}
				if err := m.pauseFor(ctx, why, time.Since(ending)); err != nil {
					return nil, nil, err
				}
				continue
			}
			if errors.Is(s.err, ErrNotAuthenticated) {
				refused := s.err
				ok, gone := m.knownAgain(ctx, s)
				if !gone {
					m.put(s)
				}
				if ok && !presented {
					presented = true
					continue
				}
				return nil, nil, refused
			}
			if s.err == nil || !errors.Is(s.err, ErrLost) {
				if l.ctx.Err() != nil {
					// Granted by the end of a connection that Close ended
					// first, and about to be lost with its own.
					return nil, nil, ErrClosed
				}
				return m, s, nil
			}
			err = s.err
			if m.err() == nil {
				m.put(s) // only this call is lost
			}
		}
		switch {
		case !errors.Is(err, ErrLost):
			return nil, nil, err
		case l.ctx.Err() != nil:
			return nil, nil, ErrClosed
		case l.opts.FailFast || sent && !repeat:
			return nil, nil, err
		}
	}
}

// Inspect tells whether anybody, this Locker included, holds the exclusive lock
// name. The answer may be out of date when it arrives. It waits for a connection,
// and asks again over the next one, as Acquire does. It works with all servers.
func (l *Locker) Inspect(ctx context.Context, name string) (bool, error) {
	n, err := l.inspect(ctx, inspect, name)
	return n > 0, err
}

// InspectShared returns how many hold the shared lock name, as Inspect does; lockd
// for Node.js does not tell and always says 0.
func (l *Locker) InspectShared(ctx context.Context, name string) (int, error) {
	return l.inspect(ctx, inspectShared, name)
}

func (l *Locker) inspect(ctx context.Context, v *verb, name string) (int, error) {
	name, err := l.check(name)
	if err != nil {
		return 0, err
	}
	for {
		m, s, err := l.call(ctx, v, arguments{}, name, true)
		if err != nil {
			return 0, err
		}
		if s != nil {
			n, err := int(s.n), s.err
			m.put(s)
			return n, err
		}
		n, err := l.old.inspect(ctx, m, v, name)
		if err, again := l.afterOld(ctx, err); !again {
			return n, err
		}
	}
}

// afterOld tells whether to ask an old server again, after this came of it, and if
// not, what to return.
func (l *Locker) afterOld(ctx context.Context, err error) (last error, again bool) {
	switch {
	case l.opts.FailFast || !errors.Is(err, ErrLost) || l.old.hopeless():
		return err, false
	case ctx.Err() != nil:
		return fmt.Errorf("%w; waiting for the next one: %w", err, ctx.Err()), false
	}
	return nil, true
}

// check folds a name and refuses what must not be sent.
func (l *Locker) check(name string) (string, error) {
	name, err := fold(name)
	if err != nil {
		return "", err
	}
	const most = len("4294967295 " + wire.GetSharedWait + " 4294967295 86400000 4294967295 ")
	if most+len(name) > l.opts.MaxLine {
		return "", ErrLineTooLong
	}
	return name, nil
}
