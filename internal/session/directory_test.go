package session

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
)

func newDirectory() *directory {
	d := &directory{}
	d.init()
	return d
}

// roll returns what `who` lists, asking for n at a time.
func roll(d *directory, n int, between func()) (names []string) {
	var number uint64
	for more := true; more; {
		number, more = d.who(number, n, func(addr, name string) bool {
			names = append(names, addr+" "+name)
			return true
		})
		if between != nil {
			between()
		}
	}
	return names
}

func TestDirectoryIDs(t *testing.T) {
	d := newDirectory()
	if p := d.peer(0); p != nil {
		t.Fatal("somebody has ID 0")
	}
	live := map[uint32]*peer{}
	last := map[uint32]uint32{} // generation, by place
	next := 0
	var order []*peer
	for range 50_000 {
		next++
		p := d.add(Address{Name: strconv.Itoa(next)}, nil)
		if p.id == 0 || p.id&placeMask == 0 {
			t.Fatal("ID 0 was given out")
		}
		if live[p.id] != nil {
			t.Fatalf("ID %#x was given out twice", p.id)
		}
		place, generation := p.id&placeMask, p.id>>placeBits
		if before, ok := last[place]; ok && generation != (before+1)&0xff {
			t.Fatalf("generation %d of place %d after %d", generation, place, before)
		}
		last[place] = generation
		live[p.id] = p
		order = append(order, p)
		if len(order) > 20 {
			p := order[0]
			order = order[1:]
			d.remove(p)
			delete(live, p.id)
			if d.peer(p.id) != nil {
				t.Fatal("who is gone is still found")
			}
		}
		if d.count() != len(live) {
			t.Fatalf("%d are counted, want %d", d.count(), len(live))
		}
	}
	for id, p := range live {
		if d.peer(id) != p {
			t.Fatalf("ID %#x is not found", id)
		}
		if p.name() != p.addr() {
			t.Fatalf("%s is %q", p.addr(), p.name())
		}
		// Somebody of another generation is nobody.
		if d.peer(id+1<<placeBits) != nil {
			t.Fatalf("the next generation of ID %#x is found", id)
		}
	}
	// Places are taken again: there are about as many as there were sessions
	// at a time, and those that rest.
	if n := int(d.places); n > 20+recycleAfter+3 {
		t.Errorf("%d places for 21 sessions", n)
	}
	if len(last) < recycleAfter {
		t.Errorf("%d places only: generations do not last", len(last))
	}
}

func TestDirectoryRoll(t *testing.T) {
	d := newDirectory()
	var peers []*peer
	for i := range 10 {
		p := d.add(Address{Name: "addr" + strconv.Itoa(i)}, nil)
		peers = append(peers, p)
		d.register(p, "name"+strconv.Itoa(i))
	}
	d.register(peers[3], "again") // moves to the end
	d.register(peers[5], "")      // takes it back
	d.register(peers[5], "")
	d.remove(peers[7])
	want := []string{"addr0 name0", "addr1 name1", "addr2 name2", "addr4 name4", "addr6 name6", "addr8 name8", "addr9 name9", "addr3 again"}
	for n := 1; n < 12; n++ {
		if got := roll(d, n, nil); !slices.Equal(got, want) {
			t.Errorf("%d at a time: %q, want %q", n, got, want)
		}
	}
	if peers[3].name() != "again" || peers[5].name() != "addr5" {
		t.Errorf("registered: %q, %q", peers[3].name(), peers[5].name())
	}
	if name := d.peer(peers[4].id).name(); name != "name4" {
		t.Errorf("holder: %q", name)
	}
}

// Registering again and again keeps the roll short.
func TestDirectoryCompaction(t *testing.T) {
	d := newDirectory()
	stays := d.add(Address{Name: "stays"}, nil)
	d.register(stays, "first")
	p := d.add(Address{Name: "p"}, nil)
	for i := range 100_000 {
		d.register(p, strconv.Itoa(i))
		if len(d.roll) > 200 {
			t.Fatalf("%d lines for 2 registrations", len(d.roll))
		}
	}
	if got, want := roll(d, 7, nil), []string{"stays first", "p 99999"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var many []*peer
	for i := range 10_000 {
		q := d.add(Address{Name: "q"}, nil)
		d.register(q, strconv.Itoa(i))
		many = append(many, q)
	}
	for _, q := range many {
		d.remove(q)
	}
	if len(d.roll) > 200 || d.struck > len(d.roll) {
		t.Errorf("%d lines, %d of them struck, for 2 registrations", len(d.roll), d.struck)
	}
	for _, r := range d.roll[len(d.roll):cap(d.roll)] {
		if r.peer != nil {
			t.Fatal("the rest of the roll keeps somebody who is gone")
		}
	}
}

// Whoever is registered all the time is listed once and in order, though the
// roll is compacted under the cursor.
func TestWhoWhileThingsChange(t *testing.T) {
	d := newDirectory()
	var want []string
	var leavers []*peer
	for i := range 1000 {
		s, l := d.add(Address{Name: "s"}, nil), d.add(Address{Name: "l"}, nil)
		d.register(s, strconv.Itoa(i))
		d.register(l, strconv.Itoa(i))
		want = append(want, "s "+strconv.Itoa(i))
		leavers = append(leavers, l)
	}
	i := 0
	got := roll(d, 10, func() {
		for range 9 {
			if i < len(leavers) {
				d.remove(leavers[(i*7)%len(leavers)])
				i++
			}
		}
		if i < len(leavers) {
			late := d.add(Address{Name: "late"}, nil)
			d.register(late, "late")
			d.remove(late)
		}
	})
	got = slices.DeleteFunc(got, func(line string) bool { return line[0] != 's' })
	if !slices.Equal(got, want) {
		t.Errorf("%d who stay are listed, or in a wrong order, want %d", len(got), len(want))
	}
}

func TestDirectoryRace(t *testing.T) {
	d := newDirectory()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				p := d.add(Address{Name: fmt.Sprintf("%d-%d", g, i)}, nil)
				d.register(p, "x")
				if name := d.peer(p.id).name(); name != "x" {
					t.Errorf("holder: %q", name)
				}
				d.peer(p.id - 1<<placeBits) // who was there before
				if i%3 == 0 {
					d.register(p, "y")
				}
				if i%500 == 0 {
					roll(d, 3, nil)
				}
				d.remove(p)
			}
		})
	}
	wg.Wait()
	if d.count() != 0 || len(roll(d, 5, nil)) != 0 {
		t.Errorf("%d are left", d.count())
	}
}

// Who changes its name has one all the time, also for those who look just then.
func TestRenamedHasANameAllTheTime(t *testing.T) {
	var d directory
	d.init()
	p := d.add(Address{Name: "address"}, new(Session))
	d.register(p, "0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200000 {
			d.register(p, strconv.Itoa(i))
		}
	}()
	for nameless := 0; ; {
		select {
		case <-done:
			if nameless > 0 {
				t.Errorf("%d times without a name", nameless)
			}
			return
		default:
			if p.name() == "address" {
				nameless++
			}
		}
	}
}
