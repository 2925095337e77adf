package main

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// TestListing: entries come back as they went in, by name and kind, and those of
// one lock in their order; however many there are that have nothing in common.
func TestListing(t *testing.T) {
	var want []client.Entry
	for i := range mostCommon + 10 {
		name, who := fmt.Sprintf("n%08d", i), fmt.Sprintf("10.0.0.7:%d", i)
		want = append(want,
			client.Entry{Name: name, Kind: client.KindExclusive, State: client.StateHeld, Since: time.Hour, Token: 1<<53 - 1, Addr: who, Registered: "x"},
			client.Entry{Name: name, Kind: client.KindExclusive, State: client.StateWaits, Addr: "second", Registered: "x", More: []string{"a", "b"}},
			client.Entry{Name: name, Kind: client.KindExclusive, State: client.StateWaits, Addr: "first", Registered: "x", More: []string{"a"}},
			client.Entry{Name: name, Kind: client.KindRate, State: client.StateOpen, Since: time.Millisecond, Count: i},
			client.Entry{Name: name, Kind: client.KindShared, State: client.StateHeld, Count: 1<<31 - 1, Addr: "unix:1", Registered: "y z", More: []string{"uid=0"}},
		)
	}
	names := make([][]client.Entry, len(want)/5)
	for i := range names {
		names[i] = want[5*i : 5*i+5]
	}
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	l := new(listing)
	for _, entries := range names {
		for _, i := range []int{4, 0, 1, 3, 2} {
			l.add(entries[i])
		}
	}
	if len(l.common) > mostCommon {
		t.Errorf("%d are in common", len(l.common))
	}
	l.sort()
	var got []client.Entry
	for name, entries := range l.names() {
		if len(entries) != 5 || entries[0].Name != name {
			t.Fatalf("%s: %v", name, entries)
		}
		got = append(got, entries...)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("other entries")
	}
	for range l.names() {
		break
	}
}
