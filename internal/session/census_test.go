package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/nylen/lockd/internal/shard"
)

// census takes one that is made now.
func census(h *Hub) *Census { return h.takeCensus(&h.censuses.busy, new(atomic.Bool)) }

func say(t *testing.T, st *Stream, requests ...string) {
	t.Helper()
	for _, r := range requests {
		turn(st, []byte(r+"\n"), nil)
	}
}

// Each list has its locks in its order, with who holds them and how many wait.
func TestCensus(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	a, b := newStream(h, "a:1", new(bell)), newStream(h, "b:1", new(bell))
	defer a.Close()
	defer b.Close()
	say(t, a, "iam holder", "g x", "g y", "sg s", "g z")
	say(t, b, "hello 2", "0 sg s", "7 sgl 5 s")
	for i := range 5 {
		st := newStream(h, fmt.Sprint("w:", i), new(bell))
		defer st.Close()
		say(t, st, fmt.Sprintf("gw 60000 %c", "xxxyy"[i]))
	}
	c := census(h)
	row := func(rows []LockRow, name string) LockRow {
		i := slices.IndexFunc(rows, func(r LockRow) bool { return r.Name == name })
		if i < 0 {
			t.Fatalf("no %s among %d rows", name, len(rows))
		}
		return rows[i]
	}
	if len(c.ByQueue) != 2 || c.ByQueue[0].Name != "x" || c.ByQueue[0].Queue != 3 || c.ByQueue[1].Name != "y" || c.ByQueue[1].Queue != 2 {
		t.Errorf("by queue: %+v", c.ByQueue)
	}
	if len(c.Oldest) != 4 {
		t.Errorf("%d are held", len(c.Oldest))
	}
	if x := row(c.Oldest, "x"); x.Holders != 1 || x.Token == 0 || x.HolderName != "holder" || x.Holder.Address() != "a:1" || x.Kind != shard.Exclusive {
		t.Errorf("%+v", x)
	}
	if s := row(c.Oldest, "s"); s.Holders != 3 || s.Token != 0 || s.Kind != shard.Shared {
		t.Errorf("%+v", s)
	}
	if len(c.Clients) != 7 {
		t.Errorf("%d clients", len(c.Clients))
	}
	most := c.First[ByLocks]
	if most[0].Address() != "a:1" || most[0].Locks != 4 || most[0].Sessions != 1 || most[1].Address() != "b:1" || most[1].Locks != 2 || most[1].Sessions != 2 || most[2].Locks != 0 {
		t.Errorf("%+v, %+v, %+v", most[0], most[1], most[2])
	}
	if w := c.First[ByWaits]; w[0].Waits != 1 || w[4].Waits != 1 || w[5].Waits != 0 {
		t.Errorf("%+v", w)
	}
	if n := c.First[ByBytes][0]; n.Address() != "a:1" && n.Address() != "b:1" {
		t.Errorf("%+v", n)
	}
	say(t, a, "r x") // the first who waits is granted it
	if c := census(h); len(c.ByQueue) != 2 || c.ByQueue[0].Queue != 2 {
		t.Errorf("by queue: %+v", c.ByQueue)
	}
}

// A shared lock with more holders than a piece of a walk has is one row.
func TestCensusOfManyHolders(t *testing.T) {
	h := newHub(testConfig())
	const n = 1500
	for i := range n {
		st := newStream(h, fmt.Sprint("a:", i), new(bell))
		defer st.Close()
		say(t, st, "sg all", "sg also")
	}
	c := census(h)
	if len(c.Oldest) != 2 || c.Oldest[0].Holders != n || c.Oldest[1].Holders != n || len(c.First[ByLocks]) != CensusRows || len(c.Clients) != n {
		t.Errorf("%d rows, %d of %d clients", len(c.Oldest), len(c.First[ByLocks]), len(c.Clients))
	}
}

// However many locks there are, and however long their names, a list is bounded,
// and what it has is what comes first.
func TestCensusIsBounded(t *testing.T) {
	for _, size := range []int{4, 4000} {
		r := ranking{better: func(a, b *LockRow) bool { return a.Queue > b.Queue }}
		order := rand.Perm(5000)
		for _, i := range order {
			r.offer(LockRow{Queue: i, Kind: shard.Kind(i % 2)}, []byte(fmt.Sprintf("%0*d", size, i/2)))
		}
		want := min(CensusRows, censusBytes/size)
		rows := r.rows()
		if len(rows) != want || rows[0].Queue != 4999 || rows[want-1].Queue != 5000-want {
			t.Errorf("names of %d bytes: %d rows, want %d, from %d to %d", size, len(rows), want, rows[0].Queue, rows[len(rows)-1].Queue)
		}
	}
	var clients []Client
	for i := range 5000 {
		clients = append(clients, Client{Locks: rand.IntN(100), id: uint32(i)})
	}
	all := make([]*Client, 0, len(clients))
	for i := range clients {
		all = append(all, &clients[i])
	}
	slices.SortFunc(all, ByLocks.Compare)
	if first := firstOf(clients, 700, ByLocks.Compare); !slices.Equal(first, all[:700]) {
		t.Error("the first 700 are others")
	}
	if first := firstOf(clients[:5], 700, ByLocks.Compare); len(first) != 5 {
		t.Errorf("%d of 5", len(first))
	}
}

// A lock that a walk comes by twice, as it was let go and taken again meanwhile, is one
// row; that of the same name and the other kind is another.
func TestCensusHasALockOnce(t *testing.T) {
	r := ranking{better: func(a, b *LockRow) bool { return a.Held > b.Held }}
	r.offer(LockRow{Held: 5}, []byte("x"))
	r.offer(LockRow{Held: 9}, []byte("y"))
	r.offer(LockRow{Held: 7}, []byte("x"))
	r.offer(LockRow{Held: 5, Kind: shard.Shared}, []byte("x"))
	var got []string
	for _, row := range r.rows() {
		got = append(got, fmt.Sprintf("%s %v %d", row.Name, row.Kind, row.Held))
	}
	if want := []string{"y exclusive 9", "x exclusive 7", "x shared 5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// One census is made for all who ask at a time, and is good for a moment; who asks a
// hub that has ended is told so.
func TestCensusIsShared(t *testing.T) {
	h := newHub(testConfig())
	st := newStream(h, "a:1", new(bell))
	say(t, st, "g x")
	var all sync.WaitGroup
	var found sync.Map
	for range 20 {
		all.Go(func() {
			c, err := h.Census(t.Context())
			if err != nil {
				t.Error(err)
			}
			found.Store(c, true)
		})
	}
	all.Wait()
	n := 0
	for range found.Range {
		n++
	}
	if n > 10 { // two, but for who is late on a busy machine
		t.Errorf("%d were made", n)
	}
	st.Close()
	h.Close()
	if c, err := h.Census(context.Background()); err == nil {
		t.Errorf("got %v", c)
	}
}

// Those who look, and those who come, go, wait and kill what they hold meanwhile.
func TestCensusUnderChurn(t *testing.T) {
	h := newHub(testConfig())
	over := make(chan struct{})
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for {
				select {
				case <-over:
					return
				default:
				}
				st := newStream(h, fmt.Sprint("c:", i), new(bell))
				say(t, st, "hello 2", "0 iam client")
				for range r.IntN(30) {
					say(t, st, fmt.Sprintf("%d %s %d", r.IntN(4), []string{"g", "gw 5", "sg", "sgw 2 5", "r", "sr"}[r.IntN(6)], r.IntN(9)))
				}
				st.Close()
			}
		})
	}
	for range 300 {
		c := census(h)
		for _, rows := range [][]LockRow{c.ByQueue, c.Oldest} {
			for _, row := range rows {
				if row.Queue > 6*4 || row.Holders < 1 || row.Holders > 6*4 || row.Name == "" {
					t.Errorf("%+v", row)
				}
			}
		}
		for i := range c.Clients {
			if one := &c.Clients[i]; one.Locks < 0 || one.Sessions > 5 || one.Address() == "" {
				t.Errorf("%+v", one)
			}
		}
	}
	close(over)
	all.Wait()
	h.Close()
}

// A name that is asked for often is among the busiest, held or not, and so is a rate.
func TestBusiest(t *testing.T) {
	h := newHub(testConfig())
	defer h.Close()
	st := newStream(h, "a:1", new(bell))
	defer st.Close()
	census(h) // from here on it counts
	for range 20000 {
		say(t, st, "g often", "r often", "rl 1000 1 0 rate")
	}
	say(t, st, "g held")
	for range 10000 {
		say(t, st, "g held")
	}
	time.Sleep(time.Millisecond)
	c := census(h)
	found := map[string]LockRow{}
	for _, row := range c.Busiest {
		found[row.Name] = row
	}
	if r := found["often"]; r.Busy <= 0 || r.Holders != 0 || r.Kind != shard.Exclusive {
		t.Errorf("%+v", r)
	}
	if r := found["rate"]; r.Busy <= 0 || r.Kind != shard.Rates {
		t.Errorf("%+v", r)
	}
	if r := found["held"]; r.Busy <= 0 || r.Holders != 1 || r.Token == 0 || r.HolderName != "a:1" {
		t.Errorf("%+v", r)
	}
	if often, held := found["often"].Busy, found["held"].Busy; often < held || len(c.Oldest) != 1 || c.Oldest[0].Busy != held {
		t.Errorf("often %v, held %v, oldest %+v", often, held, c.Oldest)
	}
}

// The last census counts as memory, until nobody has asked for a while.
func TestCensusIsForgotten(t *testing.T) {
	h := newHub(testConfig())
	st := newStream(h, "a:1", new(bell))
	say(t, st, "g x", "look x") // which looks among the shared locks, too: they have an index from then on
	before := h.memory.Used()
	if _, err := h.Census(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := h.memory.Used() - before
	if most := int64(CensusRows * 1000); first < int64(unsafe.Sizeof(Client{})) || first > most {
		t.Errorf("it counts as %d bytes", first)
	}
	time.Sleep(censusEvery)
	if _, err := h.Census(t.Context()); err != nil {
		t.Fatal(err)
	}
	if second := h.memory.Used() - before; second > 2*first {
		t.Errorf("two count as %d bytes, one as %d", second, first)
	}
	h.censuses.drop()
	if left := h.memory.Used() - before; left != 0 || h.censuses.last != nil {
		t.Errorf("%d bytes are left", left)
	}
	st.Close()
	h.Close()
}
