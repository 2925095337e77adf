//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A taking is units of a rate that were allowed.
type taking struct {
	Name     string
	Call     time.Duration // when the request that was answered was sent
	Return   time.Duration
	Units    int
	Open     int // units that were open before, by the reply
	Limit    int
	Interval time.Duration
}

const (
	rateUnits    = 20
	rateInterval = time.Second
)

// An answer is a reply, when its request was sent, and when it came. "" is none.
type answer struct {
	text      string
	sent, got time.Duration
}

// takings takes units of a rate by whatever asks, until there are no more: who stops
// before that would not notice that there is too much.
func (l *load) takings(ctx context.Context, w *witness, ask func(line string) answer) {
	name := fmt.Sprintf("rate%d", rand.IntN(8))
	for n := 0; n < 2*rateUnits && ctx.Err() == nil; n++ {
		t := taking{Name: name, Units: 1 + rand.IntN(3), Limit: rateUnits, Interval: rateInterval}
		a := ask(fmt.Sprintf("rl %d %d %d %s", t.Limit, t.Interval.Milliseconds(), t.Units, name))
		open, text := split(a.text)
		if open == 0 || !strings.HasPrefix(text, "Rate Allowed") {
			return
		}
		t.Open, t.Call, t.Return = int(open), a.sent, a.got
		w.note(note{Taking: &t})
	}
}

// An instant is when something happened to a rate: a call, or a return. Those at the same time may have been in any order, so they stand in the one
// that allows most.
type instant struct {
	at   time.Duration
	kind instantKind
	of   *taking
}

type instantKind int

const (
	called instantKind = iota
	returned
)

// overdrawn tells of which rates more was taken than there was, of takings between two
// maps: with another owner a rate is a new one, but for a move.
//
// The owner reads the clock between a call and its return, and its clock and ours run
// alike. So what was taken for certain in any stretch of time, by the calls and returns
// that lie within, is at most a burst and what comes back in it: test/survive says why that
// is nearly all that can be known.
func overdrawn(takings []taking) (found []error) {
	all := map[string][]instant{}
	for i := range takings {
		t := &takings[i]
		all[t.Name] = append(all[t.Name], instant{t.Call, called, t}, instant{t.Return, returned, t})
	}
	for name, instants := range all {
		slices.SortFunc(instants, func(a, b instant) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.kind, b.kind))
		})
		sofar := map[*taking]int{}
		for i, from := range instants {
			if from.kind != called {
				continue
			}
			if err := from.of.overdrawn(instants[i:], sofar); err != nil {
				found = append(found, fmt.Errorf("%s: %w", name, err))
				break
			}
		}
	}
	return found
}

// judgeRates judges what was taken before the last two maps, and forgets it.
func (b *lab) judgeRates(all bool) {
	h := &b.history
	h.mu.Lock()
	var maps []time.Duration
	for _, s := range h.sights {
		maps = append(maps, s.at)
	}
	h.mu.Unlock()
	b.w.mu.Lock()
	takings := b.w.takings
	b.w.takings = nil
	b.w.mu.Unlock()
	slices.SortFunc(takings, func(x, y taking) int { return cmp.Compare(x.Call, y.Call) })
	// Who has not heard of a map yet, and has the right to serve, serves by the one before.
	before, after := time.Second, b.W+time.Second
	for i, from := range maps {
		to := time.Duration(1 << 62)
		if i+1 < len(maps) {
			to = maps[i+1] - before
		} else if !all {
			// Too many would be too much to look at, each time.
			to = now() - 2*time.Second
		}
		var some []taking
		for _, t := range takings {
			if t.Call > from+after && t.Return < to {
				some = append(some, t)
			}
		}
		b.find(overdrawn(some)...)
	}
}

// overdrawn looks at all stretches of time that begin with a call, the first of these
// instants.
func (t *taking) overdrawn(instants []instant, sofar map[*taking]int) error {
	sum := 0
	clear(sofar)
	for _, at := range instants {
		switch at.kind {
		case called:
			sofar[at.of] = sum // what had been taken for certain
		case returned:
			certain, ours := sofar[at.of]
			if !ours { // it was called before
				continue
			}
			sum += at.of.Units
			// Multiplied by the interval, so that nothing is rounded.
			most := int64(t.Limit)*int64(t.Interval) + int64(at.at-t.Call)*int64(t.Limit)
			what := ""
			switch {
			case int64(sum)*int64(t.Interval) > most:
				what = fmt.Sprintf("%d units are taken", sum)
			case at.of.Open > t.Limit || int64(certain+at.of.Open)*int64(t.Interval) > most:
				what = fmt.Sprintf("%d units are said to be open when %d are taken", at.of.Open, certain)
			default:
				continue
			}
			return fmt.Errorf("%s in %v, where there are a burst of %d and %d in %v, from %.3f", what, at.at-t.Call, t.Limit, t.Limit, t.Interval, t.Call.Seconds())
		}
	}
	return nil
}
