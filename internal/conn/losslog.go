package conn

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// A lossLog writes a line of the log for each loss, from the ledger, so that no client
// waits for it. Its goroutine is there while there is something to write.
//
// When very much is lost, the log has a part of it, and says how much is missing.
type lossLog struct {
	server  *Server
	news    atomic.Bool // there may be something that the goroutine has not seen
	running atomic.Bool
	omitted atomic.Uint64 // losses that have got no line

	mu    sync.Mutex // guards what follows
	over  chan struct{}
	ends  bool
	ended sync.WaitGroup

	// The goroutine's own.
	last   uint64    // the sequence number of the last loss
	second time.Time // when the second began in which lines are counted
	lines  int       // in it
	untold uint64    // that have got no line, and the log was not told of yet
}

// lossLines is how many lines there are in a second, and oneRefusal for how long the
// number of a client's refusals may grow: it is told when it does not.
const (
	lossLines  = 100
	oneRefusal = 1100 * time.Millisecond
)

func (g *lossLog) init(s *Server) { g.server, g.over = s, make(chan struct{}) }

// wake is called when something was lost.
func (g *lossLog) wake() {
	g.news.Store(true)
	if g.running.Load() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ends && g.running.CompareAndSwap(false, true) {
		g.ended.Go(g.run)
	}
}

func (g *lossLog) run() {
	for {
		g.news.Store(false)
		if wait := g.write(false); wait > 0 {
			select {
			case <-time.After(wait):
			case <-g.over:
				return
			}
			continue
		}
		if g.news.Load() {
			continue
		}
		// What is lost from here on finds it not running, or is found.
		g.running.Store(false)
		if !g.news.Load() || !g.running.CompareAndSwap(false, true) {
			return
		}
	}
}

// stop ends it, with what is to be written still. Nothing is lost any more.
func (g *lossLog) stop() {
	g.mu.Lock()
	if g.ends {
		g.mu.Unlock()
		return
	}
	g.ends = true
	close(g.over)
	g.mu.Unlock()
	g.ended.Wait()
	if g.server.cfg.LogLosses {
		g.write(true)
	}
}

// write writes what there is, for good if that is final, and returns when to go on; 0:
// when there are news.
func (g *lossLog) write(final bool) (wait time.Duration) {
	for {
		some := g.server.hub.LossesSince(g.last, lossLines)
		now := time.Now()
		g.begin(now)
		for i := range some {
			l := &some[i]
			if age := now.Sub(l.At); l.What == session.Refusal && age < oneRefusal && !final {
				return min(oneRefusal-age, g.left(now))
			}
			g.leaveOut(l.Seq - g.last - 1) // it has been pushed out of the ledger
			g.last = l.Seq
			if g.lines++; g.lines <= lossLines {
				g.server.logLoss(l)
			} else {
				g.leaveOut(1)
			}
		}
		switch {
		case len(some) > 0:
		case g.untold == 0:
			return 0
		case final:
			g.tell()
			return 0
		default:
			return g.left(now)
		}
	}
}

// begin begins the next second, if it is time.
func (g *lossLog) begin(now time.Time) {
	if now.Sub(g.second) < time.Second {
		return
	}
	g.second, g.lines = now, 0
	g.tell()
}

// left is how long the second takes.
func (g *lossLog) left(now time.Time) time.Duration {
	if g.untold == 0 {
		return time.Second
	}
	return max(time.Millisecond, g.second.Add(time.Second).Sub(now))
}

func (g *lossLog) leaveOut(n uint64) {
	g.untold += n
	g.omitted.Add(n)
}

// tell tells how many are missing.
func (g *lossLog) tell() {
	if g.untold > 0 {
		g.server.cfg.Logger.Warn("losses that the log does not have", "losses", g.untold)
		g.untold = 0
	}
}

// logLoss writes a line, with the time of the loss.
func (s *Server) logLoss(l *session.Loss) {
	h, ctx := s.cfg.Logger.Handler(), context.Background()
	if !h.Enabled(ctx, slog.LevelInfo) {
		return
	}
	r := slog.NewRecord(l.At, slog.LevelInfo, lossTexts[l.What], 0)
	r.Add("why", l.Why.String(), "kind", l.Kind.String())
	if l.More > 0 {
		r.Add("more", l.More)
	} else {
		r.Add("lock", l.Name)
	}
	for _, a := range []struct {
		key   string
		value any
		there bool
	}{
		{"bound", l.Bound, l.Bound != ""},
		{"times", l.Times, l.Times > 1},
		{"token", l.Token, l.Token > 0},
		{"holders", l.Count, l.Count > 0},
		{"lasted", l.Lasted.Round(time.Millisecond), l.Lasted > 0 || l.What != session.Refusal && l.More == 0},
		{"client", l.Address, true},
		{"name", l.Client, l.Client != ""},
		{"as", l.Identity, l.Identity != ""},
		{"process", l.Process, l.Process != ""},
		{"by", l.By, l.By != ""},
		{"holder", l.Holder, l.Holder != ""},
		{"waiting", l.Waiting, l.Waiting > 0},
		{"waiters", strings.Join(l.Waiters, ", "), len(l.Waiters) > 0},
	} {
		if a.there {
			r.Add(a.key, a.value)
		}
	}
	_ = h.Handle(ctx, r)
}

var lossTexts = map[session.What]string{
	session.LostHold: "lock lost",
	session.LostWait: "wait lost",
	session.Refusal:  "refused",
}
