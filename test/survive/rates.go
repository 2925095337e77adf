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
	name := fmt.Sprintf("rate%d", rand.IntN(2))
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

// An instant is when something happened to a rate: a call, the start of a server, or a
// return. Those at the same time may have been in any order, so they stand in the one
// that allows most.
type instant struct {
	at   time.Duration
	kind instantKind
	of   *taking
}

type instantKind int

const (
	called instantKind = iota
	started
	returned
)

// overdrawn tells of which rates more was taken than there was.
//
// The server reads the clock between a call and its return, and its clock and ours run
// alike (ours is ahead by the time for which the machine was suspended, when nothing
// comes back). So each taking was at some moment within its span, and no other moment
// will do. Within one life of a server GCRA is exact: a full burst at first, and units
// come back evenly. Then what was taken in any stretch of time is at most a burst and
// what comes back in it, and a burst more for each start within, since rates are
// forgotten. Calls and returns are known to the nanosecond: the takings whose spans lie
// between a call and a return were in that stretch whatever their moments were, so
// that much is certain, with no tolerance, on however busy a machine. It is nearly all
// that can be known, too. If no stretch has too much, there are moments for all takings
// at which GCRA allows them, as long as a taking may be split between two (a unit that
// comes back is work for one machine, which has to be done within the interval after
// its call's moment, and this is the condition for that): what gives out more by less
// than one call's units may go unseen, and no more than that. Porcupine would search for
// an order of hundreds of calls at a time, where here there is nothing to search for.
//
// Takings whose reply was lost only leave less to others. What a reply says was open
// could have been taken at that moment, together with all that had been answered before
// the call.
func (w *witness) overdrawn() (found []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]instant{}
	for i := range w.takings {
		t := &w.takings[i]
		all[t.Name] = append(all[t.Name], instant{t.Call, called, t}, instant{t.Return, returned, t})
	}
	for name, instants := range all {
		for _, s := range w.starts {
			instants = append(instants, instant{at: s, kind: started})
		}
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
			}
		}
	}
	return found
}

// overdrawn looks at all stretches of time that begin with a call, the first of these
// instants.
func (t *taking) overdrawn(instants []instant, sofar map[*taking]int) error {
	bursts, sum := 1, 0
	clear(sofar)
	for _, at := range instants {
		switch at.kind {
		case called:
			sofar[at.of] = sum // what had been taken for certain
		case started:
			bursts++
		case returned:
			certain, ours := sofar[at.of]
			if !ours { // it was called before
				continue
			}
			sum += at.of.Units
			// Multiplied by the interval, so that nothing is rounded.
			most := int64(bursts*t.Limit)*int64(t.Interval) + int64(at.at-t.Call)*int64(t.Limit)
			what := ""
			switch {
			case int64(sum)*int64(t.Interval) > most:
				what = fmt.Sprintf("%d units are taken", sum)
			case at.of.Open > t.Limit || int64(certain+at.of.Open)*int64(t.Interval) > most:
				what = fmt.Sprintf("%d units are said to be open when %d are taken", at.of.Open, certain)
			default:
				continue
			}
			return fmt.Errorf("%s in %v, where there are %d bursts of %d and %d in %v, from %v", what, at.at-t.Call, bursts, t.Limit, t.Limit, t.Interval, t.Call)
		}
	}
	return nil
}
