package session

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// newClientAt begins a stream of a client at an address of its own.
func newClientAt(h *Hub, addr string, a *Access) *Stream {
	st := new(Stream)
	st.Begin(h, Address{IP: netip.MustParseAddrPort(addr), Transport: "tcp"}, new(bell), new(Turn))
	if a != nil {
		st.admit(a)
	}
	return st
}

// Names may be long: a page has some hundred kilobytes of them, and says that it is not
// full.
func TestSearchPageIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.MaxLine = 4096
	h := newHub(cfg)
	defer h.Close()
	a := newStream(h, "a:1", new(bell))
	defer a.Close()
	const n, size = 300, 4000
	for i := range n {
		say(t, a, fmt.Sprintf("g %0*d", size, i))
	}
	found, pages := map[string]bool{}, 0
	for q := (Search{View: shard.EachHold, Kind: shard.Kinds, Most: n}); ; pages++ {
		f := h.Find(q)
		bytes := 0
		for _, i := range f.Items {
			found[i.Name] = true
			bytes += len(i.Name)
		}
		if bytes > searchBytes+32<<10 || f.More != f.Partial {
			t.Errorf("a page has %d bytes of names; more: %v, partial: %v", bytes, f.More, f.Partial)
		}
		if !f.More {
			break
		}
		q.From = f.Next
	}
	if len(found) != n || pages < n*size/(searchBytes+32<<10) {
		t.Errorf("%d names on %d pages and one", len(found), pages)
	}
}

// A search ends when it has looked at much, or for long, whether it has found anything
// or not; and who goes on where it has ended finds all, once.
func TestSearchIsBounded(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	a, b := newClientAt(h, "10.0.0.1:1", nil), newClientAt(h, "10.0.0.2:2", nil)
	defer a.Close()
	defer b.Close()
	const n = 3000
	for i := range n {
		say(t, a, fmt.Sprint("g ", i))
	}
	say(t, b, "g few 1", "g few 2")
	for what, bound := range map[string]struct {
		items int
		time  time.Duration
	}{"items": {700, time.Hour}, "time": {1 << 30, 0}} {
		for holder, want := range map[string]int{"": n + 2, "10.0.0.2": 2, "nobody": 0} {
			found, partial, last := map[string]int{}, 0, shard.Position{}
			for steps := 0; ; steps++ {
				f := h.find(Search{View: shard.EachHold, Kind: shard.Kinds, Holder: holder, Most: n, From: last}, bound.items, bound.time)
				for _, i := range f.Items {
					found[i.Name]++
				}
				if !f.More {
					break
				}
				if f.Next == last || steps > n {
					t.Fatalf("%s, %q: it does not go on", what, holder)
				}
				if last = f.Next; f.Partial {
					partial++
				}
			}
			for name, times := range found {
				if times != 1 {
					t.Errorf("%s, %q: %s was found %d times", what, holder, name, times)
				}
			}
			if len(found) != want || partial < 3 {
				t.Errorf("%s, %q: %d were found, want %d; in %d parts", what, holder, len(found), want, partial)
			}
		}
	}
}

// Who holds something is found by address, name and identity, whatever the case, also
// by the name of one session of many.
func TestSearchByHolder(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	boss := &Access{Name: "Backup", Role: RoleAdmin}
	a, b := newClientAt(h, "10.0.0.1:4711", boss), newClientAt(h, "[2001:db8::1]:5", nil)
	defer a.Close()
	defer b.Close()
	advance(a, "g a\nsg both\n")
	advance(b, "hello 2\n0 iam Builder\n7 iam Seven\n7 g b\n8 sg both\n8 sg alone\n")
	c := newClientAt(h, "10.0.0.3:3", nil)
	defer c.Close()
	advance(c, "gw 60000 a\n")
	for text, want := range map[string]string{
		"4711": "a/both", "BACKUP": "a/both", "build": "alone/b/both", "seven": "b", "2001:db8": "alone/b/both", "#8": "", "nobody": "", "10.0.0.1:": "a/both",
	} {
		f := h.Find(Search{View: shard.EachHold, Kind: shard.Kinds, Holder: text, Most: 100})
		if got := sortedNames(f.Items); got != want || f.More {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	f := h.Find(Search{View: shard.EachLock, Kind: shard.Shared, Prefix: []byte("bo"), Most: 100})
	if got := sortedNames(f.Items); got != "both" || f.Items[0].Number != 2 {
		t.Errorf("%s, %+v", got, f.Items)
	}
	if f = h.Find(Search{View: shard.EachLock, Kind: shard.Exclusive, Prefix: []byte("a"), Most: 1}); len(f.Items) != 1 || f.Items[0].Queue != 1 {
		t.Errorf("%+v", f.Items)
	}
	if who := f.Items[0].Who; who.Address != "10.0.0.1:4711" || who.Access != boss || who.Transport != "tcp" || who.Name != "" {
		t.Errorf("%+v", who)
	}
	census, err := h.Census(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	one := h.ClientAt("[2001:db8:0::1]:5", census)
	if one == nil || h.ClientAt("[2001:db8::1]:5#8", census) != one {
		t.Fatal("there is no such client")
	}
	f = h.Find(Search{View: shard.EachHold, Kind: shard.Kinds, Client: one, Most: 100})
	if got := sortedNames(f.Items); got != "alone/b/both" {
		t.Errorf("it holds %s", got)
	}
	if h.ClientAt("10.0.0.9:1", census) != nil || h.ClientAt("", census) != nil {
		t.Error("there are clients that are not there")
	}
	for text, want := range map[string]int{"2001": 1, "BUILD": 1, "backup": 1, "10.": 2, "x": 0} {
		if found, partial := census.Search(text, ByAge); len(found) != want || partial {
			t.Errorf("%s: %d clients", text, len(found))
		}
	}
}

func sortedNames(items []FoundItem) string {
	var names []string
	for _, i := range items {
		names = append(names, i.Name)
	}
	slices.Sort(names)
	return strings.Join(names, "/")
}

// All clients can be had page by page, each that stays once, while others come and go.
func TestClientsAfter(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	var stay []*Stream
	for i := range 300 {
		stay = append(stay, newClientAt(h, fmt.Sprintf("10.1.0.1:%d", i+1), nil))
	}
	seen := map[string]int{}
	for place, pages := uint64(0), 0; pages == 0 || place != 0; pages++ {
		if pages > 300 {
			t.Fatal("there is no end")
		}
		visitor := newClientAt(h, "10.2.0.1:1", nil)
		c := h.takeCensus(new(busiest), &h.censuses.ended)
		var page []*Client
		page, place = c.After(place, 7)
		for _, one := range page {
			seen[one.Address()]++
		}
		if pages%2 == 0 {
			visitor.Close()
		} else {
			defer visitor.Close()
		}
	}
	for _, st := range stay {
		if n := seen[st.Address()]; n != 1 {
			t.Errorf("%s came %d times", st.Address(), n)
		}
		st.Close()
	}
}

// The view of one lock tells how many there are also of those that it does not list,
// and one long part of it does not hide the others.
func TestViewLock(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	var all []*Stream
	for i := range 40 {
		all = append(all, newClientAt(h, fmt.Sprintf("10.0.0.1:%d", i+1), nil))
	}
	for _, st := range all[:20] {
		advance(st, "sg x\n")
	}
	advance(all[20], "g x\nrl 10 100000 10 x\n")
	for _, st := range all[21:30] {
		advance(st, "gw 60000 x\n")
	}
	for _, st := range all[30:] {
		advance(st, "sgw 5 60000 x\n")
	}
	for _, most := range []int{1, 3, 9, 10, 20, 100} {
		v := h.ViewLock([]byte("x"), most)
		x, s := v.Exclusive, v.Shared
		if x.Count != 1 || x.Waiters != 9 || s.Count != 20 || s.Waiters != 10 {
			t.Errorf("%d: %d hold it, %d wait; %d share it, %d wait", most, x.Count, x.Waiters, s.Count, s.Waiters)
		}
		if len(x.Holders) != 1 || len(x.Queue) != min(most, 9) || len(s.Holders) != min(most, 20) || len(s.Queue) != min(most, 10) {
			t.Errorf("%d: listed are %d, %d, %d, %d", most, len(x.Holders), len(x.Queue), len(s.Holders), len(s.Queue))
		}
		if v.Rate == nil || v.Rate.State != shard.Limited {
			t.Errorf("%d: the rate is %+v", most, v.Rate)
		}
		for i, w := range x.Queue {
			if w.Who.Address != all[21+i].Address() {
				t.Errorf("%d: %s is number %d in the queue", most, w.Who.Address, i)
			}
		}
	}
	if v := h.ViewLock([]byte("nothing"), 10); v.Exclusive.Count+v.Exclusive.Waiters+v.Shared.Count+v.Shared.Waiters != 0 || v.Rate != nil {
		t.Errorf("%+v", v)
	}
	for _, st := range all {
		st.Close()
	}
	if d := h.OldestWait(); d != 0 {
		t.Errorf("somebody has waited for %v", d)
	}
}

// Somebody who is no client ends one: the answer comes when it has ended, or is not
// waited for any more.
func TestHubKick(t *testing.T) {
	h, network := NewHub(testConfig(), noNetwork{}), &kicks{}
	h.network = network
	defer h.Close()
	boss := &Access{Name: "boss"}
	if found, _ := h.Kick(context.Background(), "10.0.0.1:1", Kicker{}); found {
		t.Error("nobody was found")
	}
	st := newClientAt(h, "10.0.0.1:1", nil)
	advance(st, "hello 2\n0 iam victim\n5 g x\n")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if found, ended := h.Kick(ctx, "10.0.0.1:1#5", Kicker{Address: "192.0.2.1:9", Access: boss}); !found || ended {
		t.Errorf("found %v, ended %v, while it is there", found, ended)
	}
	want := Kick{Client: "10.0.0.1:1", Name: "victim", By: "192.0.2.1:9", ByName: "192.0.2.1:9", ByAccess: boss}
	if network.last != want || network.carrier != st.carrier {
		t.Errorf("%+v, want %+v", network.last, want)
	}
	// Who has got an address that another one had is not who was meant.
	if found, _ := h.Kick(ctx, "10.0.0.1:1", Kicker{MinAge: time.Hour}); found {
		t.Error("a client that has not been there for an hour was found")
	}
	kicked := make(chan bool)
	go func() {
		found, ended := h.Kick(context.Background(), "10.0.0.1:1", Kicker{})
		kicked <- found && ended
	}()
	select {
	case <-kicked:
		t.Fatal("it is there still")
	case <-time.After(20 * time.Millisecond):
	}
	st.Close()
	if !<-kicked {
		t.Error("it has not ended")
	}
	if page, _ := h.Losses(0, 1, nil); len(page) != 1 || page[0].Why != WhyKick || page[0].By != "192.0.2.1:9 (boss)" {
		t.Errorf("the ledger says %+v", page)
	}
}
