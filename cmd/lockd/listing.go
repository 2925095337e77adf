package main

import (
	"cmp"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A listing is many entries in little memory: a million locks are most often held
// by a few clients, so what entries have in common is kept once.
type listing struct {
	rows   []row
	common map[string]*client.Entry // by what they have in common
}

// A row is an entry: one without name, time and number, and these.
type row struct {
	name   string
	since  time.Duration
	number uint64 // token or count
	common *client.Entry
}

// mostCommon bounds the map, for servers where nothing is common. It begins anew
// then.
const mostCommon = 1 << 14

func (l *listing) add(e client.Entry) {
	// Cloned, since an entry's texts are parts of one line.
	r := row{name: strings.Clone(e.Name), since: e.Since, number: e.Token}
	if e.Kind != client.KindExclusive {
		r.number = uint64(e.Count)
	}
	fields := append([]string{string(e.Kind), string(e.State), e.Addr, e.Registered}, e.More...)
	key := strings.Join(fields, "\t") // which is in none of them
	r.common = l.common[key]
	if r.common == nil {
		if l.common == nil || len(l.common) == mostCommon {
			l.common = make(map[string]*client.Entry)
		}
		e.Name, e.Since, e.Token, e.Count = "", 0, 0, 0
		r.common = &e
		l.common[key] = r.common
	}
	l.rows = append(l.rows, r)
}

func (r row) entry() client.Entry {
	e := *r.common
	e.Name, e.Since = r.name, r.since
	if e.Kind == client.KindExclusive {
		e.Token = r.number
	} else {
		e.Count = int(r.number)
	}
	return e
}

// sort sorts by name and kind: exclusive, rate, shared. Those of one lock stay in
// the order of the turns.
func (l *listing) sort() {
	slices.SortStableFunc(l.rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.common.Kind, b.common.Kind))
	})
}

// names goes over the entries of each name, which are good until the next one.
func (l *listing) names() iter.Seq2[string, []client.Entry] {
	return func(yield func(string, []client.Entry) bool) {
		var entries []client.Entry
		for i := 0; i < len(l.rows); {
			name := l.rows[i].name
			entries = entries[:0]
			for ; i < len(l.rows) && l.rows[i].name == name; i++ {
				entries = append(entries, l.rows[i].entry())
			}
			if !yield(name, entries) {
				return
			}
		}
	}
}
