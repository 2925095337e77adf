package shard

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Of names of which some are asked for more often than others, the busiest are
// found, of all kinds, about as often as they were asked for: also by somebody who
// asks for them in turn.
func TestBusy(t *testing.T) {
	set := New(4, Config{})
	o := &Owner{ID: 1}
	const rounds = 20000
	for i := range rounds {
		for range 3 {
			set.Get(o, []byte("often"))
		}
		set.GetShared(o, []byte("often"))
		set.Take(nil, []byte("rate"), Rate{1, 1}, 0, 1)
		set.Get(o, fmt.Appendf(nil, "once %d", i))
		set.Get(o, fmt.Appendf(nil, "seldom %d", rand.IntN(10000)))
	}
	type key struct {
		Kind
		name string
	}
	got := map[key]BusyName{}
	for _, b := range set.TakeBusy() {
		got[key{b.Kind, string(b.Name)}] = b
	}
	for k, want := range map[key]uint64{
		{Exclusive, "often"}: 3 * rounds, {Shared, "often"}: rounds, {Rates, "rate"}: rounds,
	} {
		n := got[k]
		if low, high := n.Requests-n.Over, n.Requests; high < want*8/10 || low > want*12/10 {
			t.Errorf("%v was asked for %d to %d times, want %d", k, low, high, want)
		}
	}
	if len(got) > 4*busyNames {
		t.Errorf("%d names are kept", len(got))
	}
	for k, b := range got {
		if strings.HasPrefix(k.name, "o") || k.name == "rate" {
			continue
		}
		if b.Requests-b.Over > 10*sampleEvery {
			t.Errorf("%q was asked for at least %d times", k.name, b.Requests-b.Over)
		}
	}
	if again := set.TakeBusy(); len(again) != 0 {
		t.Errorf("%d names are left", len(again))
	}
}

// A name that is very long is not kept.
func TestBusyLong(t *testing.T) {
	set := New(1, Config{})
	o := &Owner{ID: 1}
	for _, size := range []int{longestSample, longestSample + 1} {
		name := []byte(strings.Repeat("x", size))
		for range 10 * sampleEvery {
			set.Get(o, name)
		}
		if got, want := len(set.TakeBusy()), map[int]int{longestSample: 1}[size]; got != want {
			t.Errorf("%d bytes: %d names, want %d", size, got, want)
		}
	}
}
