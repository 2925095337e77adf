//go:build unix

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// A tally counts what actors did, by kind and by what it was.
type tally struct {
	mu sync.Mutex // guards n
	n  map[string]map[string]int
}

func newTally() *tally { return &tally{n: make(map[string]map[string]int)} }

func (t *tally) add(kind, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n[kind] == nil {
		t.n[kind] = make(map[string]int)
	}
	t.n[kind][what]++
}

func (t *tally) sum(what string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, of := range t.n {
		n += of[what]
	}
	return n
}

// print prints a table of all of it.
func (t *tally) print(to io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	columns := []string{"visits", "requests", "grants", "resets", "half-closes", "kicks", "kills", "histories"}
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "actors\t")
	for _, c := range columns {
		fmt.Fprint(w, c, "\t")
	}
	fmt.Fprintln(w)
	for _, kind := range slices.Sorted(maps.Keys(t.n)) {
		fmt.Fprint(w, kind, "\t")
		for _, c := range columns {
			if n := t.n[kind][c]; n > 0 {
				fmt.Fprint(w, n)
			}
			fmt.Fprint(w, "\t")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
}

// rates counts the units that were taken of the rate, from the outside.
type rates struct {
	mu    sync.Mutex // guards what follows
	begun time.Time
	units int
}

const (
	rateLimit  = 20
	rateWindow = 100 * time.Millisecond
)

// took notes units that were taken. There are never more than a burst and what has
// become open since the beginning.
func (r *rates) took(n int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.units += n
	if most := rateLimit + int(time.Since(r.begun)*rateLimit/rateWindow) + 1; r.units > most {
		return breach{fmt.Errorf("%d units were taken of a rate that has had %d", r.units, most)}
	}
	return nil
}
