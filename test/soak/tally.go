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
	mu    sync.Mutex // guards what follows
	n     map[string]map[string]int
	calls map[string]map[string]int // by identity and transport
}

func newTally() *tally {
	return &tally{n: make(map[string]map[string]int), calls: make(map[string]map[string]int)}
}

func (t *tally) add(kind, what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(t.n, kind, what)
}

// comes counts somebody who connects.
func (t *tally) comes(who caller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count(t.calls, who.title(), who.transport.name)
}

func count(of map[string]map[string]int, row, column string) {
	if of[row] == nil {
		of[row] = make(map[string]int)
	}
	of[row][column]++
}

func (t *tally) sum(what string) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, of := range t.n {
		n += of[what]
	}
	return n
}

// print prints tables of all of it.
func (t *tally) print(to io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ways []string
	for _, way := range transports {
		ways = append(ways, way.name)
	}
	table(to, "connections of", ways, t.calls)
	rest := maps.Clone(t.n)
	delete(rest, "rotator")
	table(to, "actors", []string{"visits", "requests", "grants", "resets", "half-closes", "kicks", "reconnects", "denials", "hung", "turned away", "kills", "histories"}, rest)
	table(to, "meanwhile", []string{"new tokens", "new server certificates", "new client authorities", "broken files"}, map[string]map[string]int{"": t.n["rotator"]})
}

func table(to io.Writer, title string, columns []string, rows map[string]map[string]int) {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, title, "\t")
	for _, c := range columns {
		fmt.Fprint(w, c, "\t")
	}
	fmt.Fprintln(w)
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		fmt.Fprint(w, row, "\t")
		for _, c := range columns {
			if n := rows[row][c]; n > 0 {
				fmt.Fprint(w, n)
			}
			fmt.Fprint(w, "\t")
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	fmt.Fprintln(to)
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
