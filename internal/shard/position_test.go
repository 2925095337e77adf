package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// churned is a set of which some is there all the time, and the rest comes and goes.
type churned struct {
	*Set
	stay  *Owner
	other []*Owner
	names [][]byte
}

// newChurned has the same names held exclusively and shared, by several, with somebody
// who waits for each, and as rates.
func newChurned(shards, names int) *churned {
	c := &churned{Set: New(shards, Config{}), stay: &Owner{ID: 1}}
	for id := range uint32(4) {
		c.other = append(c.other, &Owner{ID: 2 + id})
	}
	id := uint32(100)
	for i := range names {
		name := fmt.Appendf(nil, "stay %d", i)
		c.names = append(c.names, name)
		c.Get(c.stay, name)
		for _, o := range append(c.other[:i%3:i%3], c.stay) {
			c.GetShared(o, name)
		}
		id++
		c.GetWait(&Owner{ID: id}, name, 1<<40)
		c.Take(nil, name, Rate{10, 1e15}, 5, 1)
	}
	return c
}

// churn has others take and let go of things.
func (c *churned) churn() {
	for range rand.IntN(200) {
		o := c.other[rand.IntN(len(c.other))]
		name := fmt.Appendf(nil, "come %d", rand.IntN(500))
		switch rand.IntN(5) {
		case 0:
			c.Get(o, name)
		case 1:
			c.Release(o, name)
		case 2:
			c.GetShared(o, name)
		case 3:
			c.ReleaseShared(o, name)
		case 4:
			c.Take(nil, name, Rate{10, 1e6}, 1, uint64(rand.IntN(1e9)))
			c.Sweep(uint64(rand.IntN(1e9)), 100)
		}
	}
}

// pages goes over a view page by page, with something between, and returns the items
// under their names, kinds and owners.
func (c *churned) pages(v View, kind Kind, prefix string, most int, between func()) map[string]int {
	found := map[string]int{}
	var at Position
	for more := true; more; between() {
		w := c.WalkFrom(v, kind, []byte(prefix), at)
		w.Now = 1
		p := Piece{Most: 1 + rand.IntN(most)}
		more = w.Next(&p)
		at = w.Position()
		w.Close()
		if len(p.Items) > p.Most {
			panic("more than was wanted")
		}
		for _, i := range p.Items {
			found[fmt.Sprintf("%s/%d/%s/%d", v, i.Kind, p.Name(i), i.Owner)]++
		}
	}
	return found
}

func (v View) String() string { return [...]string{"lock", "hold", "wait", "rate"}[v] }

// want is what pages has to find of what stays.
func (c *churned) want(v View, kind Kind) map[string]int {
	want := map[string]int{}
	id := uint32(100)
	for i, name := range c.names {
		id++
		add := func(k Kind, owner uint32) {
			if kind == Kinds || kind == k || v >= EachWait {
				want[fmt.Sprintf("%s/%d/%s/%d", v, k, name, owner)] = 1
			}
		}
		switch v {
		case EachLock:
			add(Exclusive, 1)
			first := uint32(1)
			if i%3 > 0 {
				first = 2
			}
			add(Shared, first)
		case EachHold:
			add(Exclusive, 1)
			add(Shared, 1)
			for o := range uint32(i % 3) {
				add(Shared, 2+o)
			}
		case EachWait:
			add(Exclusive, id)
		case EachRate:
			add(Exclusive, 0)
		}
	}
	return want
}

// A walk that is gone on with from a position, over and over, by others, finds what is
// there all the time exactly once, however much comes and goes meanwhile.
func TestWalkFrom(t *testing.T) {
	for _, shards := range []int{1, 8} {
		for _, v := range []View{EachLock, EachHold, EachWait, EachRate} {
			for _, kind := range []Kind{Kinds, Exclusive, Shared} {
				c := newChurned(shards, 700)
				found := c.pages(v, kind, "", 60, c.churn)
				want := c.want(v, kind)
				for what, n := range want {
					if found[what] != n {
						t.Fatalf("%d shards, %v, kind %d: %s was found %d times", shards, v, kind, what, found[what])
					}
				}
				found = c.pages(v, kind, "stay 1", 600, c.churn)
				for what := range found {
					if want[what] == 0 {
						t.Fatalf("%d shards, %v, kind %d: %s was found", shards, v, kind, what)
					}
				}
				if n := len(found) * 7; n < len(want) { // stay 1, 10 to 19, 100 to 199
					t.Errorf("%d shards, %v, kind %d: %d of %d begin so", shards, v, kind, len(found), len(want))
				}
			}
		}
	}
}

// A position that somebody has made up does no harm.
func TestMadeUpPositions(t *testing.T) {
	c := newChurned(4, 300)
	numbers := []uint32{0, 1, 2, 3, 4, 100, 1 << 20, 1<<31 - 1, 1 << 31, 1<<32 - 2, 1<<32 - 1}
	for _, v := range []View{EachLock, EachHold, EachWait, EachRate} {
		for _, shard := range numbers {
			for _, part := range numbers {
				for _, ref := range numbers {
					w := c.WalkFrom(v, Kinds, nil, Position{shard, part, ref})
					var p Piece
					for n := 0; w.Next(&p); n++ {
						if n > 1000 {
							t.Fatalf("%v: no end from %d, %d, %d", v, shard, part, ref)
						}
					}
					w.Close()
				}
			}
		}
	}
}

// Parts of a look are those of the whole one.
func TestLookOnly(t *testing.T) {
	c := newChurned(2, 10)
	whole := list(c.Look([]byte("stay 2")))
	var parts []string
	for p := LookHolder; p <= LookRate; p++ {
		parts = append(parts, list(c.LookOnly([]byte("stay 2"), p, p))...)
	}
	if len(whole) != 6 || !slices.Equal(whole, parts) {
		t.Errorf("%q, and in parts %q", whole, parts)
	}
}

func list(w *Walk) (lines []string) {
	defer w.Close()
	var p Piece
	for more := true; more; {
		more = w.Next(&p)
		for _, i := range p.Items {
			lines = append(lines, fmt.Sprint(i.Owner, i.Kind, i.State, i.Number))
		}
	}
	return lines
}
