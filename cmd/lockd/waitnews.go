package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A waitNews says on stderr for whom, or what, lockd run waits. On a terminal
// that is one line, which is up to date and goes away. Else it is a log, where
// a line that says nothing new is a nuisance: so there are few, and fewer and
// fewer of them.
//
// It has a goroutine of its own, which looks at the lock over the connection
// that waits, in another session, and it waits for nobody who reads stderr.
type waitNews struct {
	w        *waiting
	terminal bool
	out      *lineQueue
	line     statusLine
	self     string // under which name we are in the list

	end     context.CancelFunc
	ended   chan struct{}
	changed chan struct{} // there is something new to say

	mu       sync.Mutex // guards what follows
	what     waitsFor
	opens    time.Time // the rate
	cause    error     // why the server is away
	since    time.Time // when it went
	returned time.Time // when it came back
}

type waitsFor int

const (
	forNothing waitsFor = iota
	forLock
	forRate
	forServer
)

const (
	soonOnTerminal = 200 * time.Millisecond
	soonInLog      = 5 * time.Second
	newsEvery      = time.Second
	leastPause     = 10 * time.Second // between two lines of a log
	mostPause      = 10 * time.Minute
	lookTimeout    = 5 * time.Second
)

// longestShown is how many columns of a holder's name are shown, which may be as
// long as a line of the server: those of lockd run fit.
const longestShown = longestUser + longestHost + longestLabel + 30

func newWaitNews(w *waiting) *waitNews {
	n := &waitNews{
		w: w, terminal: canRedraw(int(os.Stderr.Fd())), self: w.registered(),
		out:   newLineQueue(os.Stderr, func(io.Writer, int64) {}),
		ended: make(chan struct{}), changed: make(chan struct{}, 1),
	}
	n.line.to = n.out
	var ctx context.Context
	ctx, n.end = context.WithCancel(context.Background())
	go n.run(ctx)
	return n
}

// stop ends it all, and removes its line from the terminal.
func (n *waitNews) stop() {
	n.end()
	<-n.ended
	n.out.flush()
}

// set notes what is waited for.
func (n *waitNews) set(note func()) {
	n.mu.Lock()
	before := n.what
	note()
	changed := n.what != before
	n.mu.Unlock()
	if changed {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
}

func (n *waitNews) lock() { n.set(func() { n.what = forLock }) }

func (n *waitNews) rate(opens time.Time) { n.set(func() { n.what, n.opens = forRate, opens }) }

func (n *waitNews) away(cause error, since time.Time) {
	n.set(func() { n.what, n.cause, n.since = forServer, cause, since })
}

// answered notes that the server is there.
func (n *waitNews) answered() { n.set(func() { n.what, n.returned = forNothing, time.Now() }) }

func (n *waitNews) run(ctx context.Context) {
	defer close(n.ended)
	if n.terminal {
		n.redraw(ctx)
	} else {
		n.report(ctx)
	}
}

// redraw keeps the line of a terminal up to date.
func (n *waitNews) redraw(ctx context.Context) {
	defer func() {
		if inForeground(int(os.Stderr.Fd())) {
			n.line.clear()
		}
	}()
	next := time.NewTimer(soonOnTerminal)
	defer next.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			n.sayBack(&away)
			return
		case <-n.changed:
			next.Reset(soonOnTerminal)
			continue
		case <-next.C:
		}
		begun := time.Now()
		if !inForeground(int(os.Stderr.Fd())) { // the line belongs to others now
			n.line.shown = false
			next.Reset(newsEvery)
			continue
		}
		n.sayBack(&away)
		if s := n.say(ctx); len(s.texts) > 0 && ctx.Err() == nil {
			columns, _ := terminalSize(int(os.Stderr.Fd()))
			n.line.show(firstThatFits(s.texts, columns-1))
			away = s.what == forServer
		}
		// Whoever is far behind in a long queue asks less often.
		next.Reset(newsEvery + 10*time.Since(begun))
	}
}

// report writes a log: a line after some seconds and then ever more rarely, and
// in between, but not as often as it happens, that somebody else holds the lock
// or that the server is away.
func (n *waitNews) report(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	pause := leastPause
	last := time.Now().Add(soonInLog - pause)
	var look time.Time
	away, holder := false, ""
	for {
		select {
		case <-ctx.Done():
			n.sayBack(&away)
			return
		case <-tick.C:
		}
		n.sayBack(&away)
		now := time.Now()
		due := now.Sub(last) >= pause
		early := now.Sub(last) >= pause/4 && (n.isAway() || holder != "" && now.Sub(look) >= pause/4)
		if away || !due && !early {
			continue
		}
		look = now
		s := n.say(ctx)
		isNew := s.what == forServer || holder != "" && s.holder != holder
		if len(s.texts) == 0 || ctx.Err() != nil || !isNew && !due {
			continue
		}
		fmt.Fprintln(n.out, s.texts[0])
		away, holder = s.what == forServer, s.holder
		last, pause = now, min(2*pause, mostPause)
	}
}

func (n *waitNews) isAway() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.what == forServer
}

// sayBack says that the server is back, if it was said that it is away.
func (n *waitNews) sayBack(away *bool) {
	n.mu.Lock()
	back := *away && n.what != forServer
	d := n.returned.Sub(n.since)
	n.mu.Unlock()
	if back {
		*away = false
		n.line.clear()
		fmt.Fprintf(n.out, "lockd: %s is back, after %s\n", n.w.Server, ago(d))
	}
}

// A said is what there is to say: in full, and for narrow terminals shorter.
type said struct {
	what   waitsFor
	texts  []string
	holder string
}

func (n *waitNews) say(ctx context.Context) said {
	n.mu.Lock()
	s := said{what: n.what}
	opens, cause, since := n.opens, n.cause, n.since
	n.mu.Unlock()
	name := quote(n.w.name)
	switch s.what {
	case forServer:
		why := n.w.explain(cause)
		s.texts = []string{"lockd: " + why + "; waiting for it, and then for " + name}
		if n.terminal {
			s.texts = []string{"lockd: server away for " + ago(time.Since(since)) + ": " + why}
		}
	case forRate:
		s.texts = []string{fmt.Sprintf("lockd: waiting for the rate of %s, which opens in %s", name, ago(time.Until(opens)+time.Second-1))}
	case forLock:
		s.texts, s.holder = n.inTheWay(ctx, name)
	}
	return s
}

// inTheWay tells who is, if the server does.
func (n *waitNews) inTheWay(ctx context.Context, name string) (texts []string, holder string) {
	plainly := []string{"lockd: waiting for " + name}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	entries, err := n.w.locker.Look(ctx, n.w.name)
	if err != nil {
		if errors.Is(err, client.ErrLost) {
			return nil, "" // that is for others to say
		}
		return plainly, ""
	}
	kind, limit := client.KindExclusive, 0
	if n.w.Shared {
		kind, limit = client.KindShared, n.w.limit()
	}
	var holders []client.Entry
	before, queued, ours := 0, 0, false
	for _, e := range entries {
		switch {
		case e.Kind != kind:
		case e.State == client.StateWaits:
			queued++
			if ours = ours || n.isSelf(e); !ours {
				before++
			}
		default:
			holders = append(holders, e)
		}
	}
	place, short := "", ""
	switch {
	case !ours:
	case before == 0:
		place = "; you are next"
	case before == 1:
		place, short = "; 1 waits before you", "; 1 before you"
	default:
		place, short = fmt.Sprintf("; %d wait before you", before), fmt.Sprintf("; %d before you", before)
	}
	if len(holders) == 0 {
		return []string{plainly[0] + place}, ""
	}
	first := holders[0]
	since, who := ago(first.Since), fit(whoIs(first), longestShown)
	addr := " (" + plain(first.Addr) + ")"
	if who == "" {
		who, addr = plain(first.Addr), ""
	}
	held, briefly := fmt.Sprintf("held for %s by", since), fmt.Sprintf("held for %s by", since)
	switch {
	case limit == 0:
	case limit == 1 && len(holders) == 1:
	case len(holders) > limit:
		held = fmt.Sprintf("held by %d, more than %d, the longest for %s by", len(holders), limit, since)
		briefly = fmt.Sprintf("held by %d, longest %s by", len(holders), since)
	default:
		held = fmt.Sprintf("held by %d of %d, the longest for %s by", len(holders), limit, since)
		briefly = fmt.Sprintf("held by %d of %d, longest %s by", len(holders), limit, since)
	}
	return []string{
		fmt.Sprintf("lockd: waiting for %s, %s %s%s%s", name, held, who, addr, place),
		fmt.Sprintf("lockd: waiting for %s, %s %s%s", name, held, who, place),
		fmt.Sprintf("lockd: %s %s %s%s", name, briefly, who, short),
	}, first.Addr
}

// isSelf tells whether an entry is this process's: by its name, which nobody
// else has.
func (n *waitNews) isSelf(e client.Entry) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(e.Registered, n.self), "#")
	return strings.HasPrefix(e.Registered, n.self) && name == ""
}

func firstThatFits(texts []string, columns int) string {
	for _, text := range texts {
		if columnsOf(text) <= columns {
			return text
		}
	}
	return fit(texts[len(texts)-1], columns)
}
