package conn

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// watched are the links over TCP, with a goroutine that looks which of their clients
// are dead, see deadpeer.go. It is there while there are any.
type watched struct {
	server *Server

	mu    sync.Mutex // guards what follows
	links map[*link]*lookedAt
	wants int // how many of them somebody wants
	runs  bool
	over  bool
	kick  chan struct{} // there is more to do
	ended sync.WaitGroup
}

// A lookedAt is what the looks at a link have found. The goroutine's own, but for
// wanting.
type lookedAt struct {
	unheard bool     // something was unanswered
	wanting *wanting // nil: nobody wants it
}

func (w *watched) init(s *Server) {
	w.server, w.links, w.kick = s, make(map[*link]*lookedAt), make(chan struct{}, 1)
}

func (w *watched) add(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[l] = new(lookedAt)
	if !w.runs && !w.over {
		w.runs = true
		w.ended.Go(w.run)
	}
}

func (w *watched) remove(l *link) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at := w.links[l]; at.wanting != nil {
		w.wants--
	}
	delete(w.links, l)
}

// want has a link's client asked, from now on every second.
func (w *watched) want(l *link) {
	if l.tcp == nil || l.wanted.Load() || !l.wanted.CompareAndSwap(false, true) || l.rests() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	at, now := w.links[l], time.Now()
	if at == nil {
		return
	}
	if at.wanting == nil {
		at.wanting = &wanting{since: now}
		w.wants++
		l.tcp.SetKeepAliveConfig(wantedKeepAlive)
		w.wake()
	}
	at.wanting.again(now)
}

func (w *watched) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

func (w *watched) run() {
	tick := w.server.pace.tick
	timer := time.NewTimer(tick * roundTicks)
	defer timer.Stop()
	last := time.Now() // round
	for {
		select {
		case <-timer.C:
		case <-w.kick:
		}
		now := time.Now()
		all := now.Sub(last) >= tick*roundTicks
		if all {
			last = now
		}
		for _, l := range w.some(all) {
			w.look(l, now, all)
		}
		w.mu.Lock()
		if len(w.links) == 0 || w.over {
			w.runs = false
			w.mu.Unlock()
			return
		}
		next := last.Add(tick * roundTicks)
		if w.wants > 0 {
			next = now.Add(tick)
		}
		w.mu.Unlock()
		timer.Reset(time.Until(next))
	}
}

// some returns the links that are wanted, or all.
func (w *watched) some(all bool) []*link {
	w.mu.Lock()
	defer w.mu.Unlock()
	if all {
		return slices.Collect(maps.Keys(w.links))
	}
	var some []*link
	for l, at := range w.links {
		if at.wanting != nil {
			some = append(some, l)
		}
	}
	return some
}

// look looks at a link, which may have ended; thoroughly, or only since somebody
// wants it.
func (w *watched) look(l *link, now time.Time, thoroughly bool) {
	w.mu.Lock()
	at := w.links[l]
	if at == nil {
		w.mu.Unlock()
		return
	}
	wants := at.wanting
	switch {
	case wants == nil:
	case now.After(wants.until) || l.rests():
		at.wanting, wants = nil, nil
		w.wants--
		l.tcp.SetKeepAliveConfig(w.server.keepAlive) // before somebody wants it again
		l.wanted.Store(l.rests())
	case now.Sub(wants.told) >= wantedEvery:
		l.wanted.Store(false)
	}
	w.mu.Unlock()
	s := w.server
	asked := l.asked.Swap(false)
	if l.sending.Load() { // it may have been asked for the first time
		asked = true
	}
	if asked || wants != nil {
		h, ok := l.hear()
		if ok && h.pending {
			l.asked.Store(true)
		}
		if ok && wants != nil && wants.dead(h, now) {
			l.endDead(h.ago)
			return
		}
		if thoroughly {
			if ok && h.dead(at.unheard, s.deadPeer) {
				l.endDead(h.ago)
				return
			}
			at.unheard = ok && h.unanswered
		}
	}
	if l.frames == nil {
		return
	}
	switch silent, next := l.frames.pulse.look(s, now, wants != nil); next {
	case pulseDead:
		l.endDead(silent)
	case pulseAsk:
		l.frames.pulse.asked(s, now)
		l.pingDue.Store(true)
		l.Wake()
	}
}

// stop ends the goroutine and waits for that.
func (w *watched) stop() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	w.wake()
	w.ended.Wait()
}

// hear asks the kernel about the connection.
func (l *link) hear() (h heard, ok bool) {
	raw, err := l.tcp.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { h, ok = hear(int(fd)) })
	}
	return h, ok
}

// endDead ends a link whose client is dead.
func (l *link) endDead(silent time.Duration) {
	client := ""
	l.look(func(st *session.Stream) {
		st.EndsFor(session.WhyDeadPeer)
		client = st.Address()
	})
	if client != "" {
		l.server.logVanished(client, silent)
		l.kill()
	}
}
