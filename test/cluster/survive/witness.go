//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// now is the time since the machine's start, suspends included: the same for all
// processes on it, so what several of them saw can be put in one order.
func now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err)
	}
	return time.Duration(t.Nano())
}

// A hold is from when somebody believed in a lock until it stopped to do so: because it
// was about to release it, had heard of its loss, or its own deadline had come. Who was
// stopped at that moment has ended with its deadline: nothing can stop it before it
// wakes, and for what it does then there are tokens.
type hold struct {
	Name  string // of the lock, with the verb of its kind
	Owner int
	Kind  string        // of client
	Home  string        // the node that it was asked of
	From  time.Duration // when the grant was received
	Asked time.Duration // when it was asked for
	To    time.Duration
	Left  time.Duration // when the release was answered; 0: it has ended in another way
	Token uint64        // 0: unknown, as in protocol 1
	Limit int           // of holders
}

func (h hold) String() string {
	return fmt.Sprintf("[%s %d at %s, token %d, asked %.3f from %.3f to %.3f left %.3f]",
		h.Kind, h.Owner, h.Home, h.Token, h.Asked.Seconds(), h.From.Seconds(), h.To.Seconds(), h.Left.Seconds())
}

// A loss is a lock that its holder has not released, but lost.
type loss struct {
	Kind   string // of client
	Client string // the machine that it is on
	Home   string // the node that it was connected to
	Name   string // of the lock, with the verb of its kind
	Why    string
	At     time.Duration
	Held   *hold `json:",omitempty"`
	// Never is that no fault explains it.
	Never bool
}

func (l loss) String() string {
	return fmt.Sprintf("at %.3f a %s on %s at %s has lost %q: %s %v", l.At.Seconds(), l.Kind, l.Client, l.Home, l.Name, l.Why, l.Held)
}

// A probe is a lock that nobody else wanted, and that was granted.
type probe struct {
	Name     string
	Home     string
	Sent, At time.Duration
}

// A note is one of these, as it is written by processes of their own.
type note struct {
	Hold   *hold   `json:",omitempty"`
	Loss   *loss   `json:",omitempty"`
	Probe  *probe  `json:",omitempty"`
	Taking *taking `json:",omitempty"`
	Stall  *stall  `json:",omitempty"`
	Count  string  `json:",omitempty"`
}

// A witness hears from all clients what they hold, and when.
type witness struct {
	mu      sync.Mutex // guards what follows
	holds   map[string][]hold
	held    int // in all
	freed   int
	losses  []loss
	lost    int
	probes  []probe
	takings []taking
	stalls  []stall
	counts  map[string]int
	owners  int
	out     *json.Encoder // a child writes all to its parent
}

func newWitness() *witness {
	return &witness{counts: map[string]int{}, holds: map[string][]hold{}}
}

// owner returns a number for somebody who will hold locks.
func (w *witness) owner() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owners++
	return w.owners
}

func (w *witness) note(n note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.out != nil {
		w.out.Encode(n)
		return
	}
	switch {
	case n.Hold != nil:
		w.holds[n.Hold.Name] = append(w.holds[n.Hold.Name], *n.Hold)
		w.held++
		if n.Hold.Left != 0 {
			w.freed++
		}
	case n.Loss != nil:
		w.losses = append(w.losses, *n.Loss)
		w.lost++
	case n.Probe != nil:
		w.probes = append(w.probes, *n.Probe)
	case n.Stall != nil:
		w.stalls = append(w.stalls, *n.Stall)
	case n.Taking != nil:
		w.takings = append(w.takings, *n.Taking)
	case n.Count != "":
		w.counts[n.Count]++
	}
}

func (w *witness) count(what string) { w.note(note{Count: what}) }

// hear reads what a child writes until its end. Its owners are made others than ours.
func (w *witness) hear(from io.Reader, base int) error {
	for d := json.NewDecoder(from); ; {
		var n note
		if err := d.Decode(&n); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if n.Hold != nil {
			n.Hold.Owner += base
		}
		w.note(n)
	}
}

// sorted returns the holds of the locks in those names that are wanted, each name's in the
// order of their beginnings.
func (w *witness) sorted(wanted func(name string) bool) map[string][]hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]hold{}
	for name, holds := range w.holds {
		if wanted(name) {
			holds = slices.Clone(holds)
			slices.SortFunc(holds, func(a, b hold) int { return cmp.Compare(a.From, b.From) })
			all[name] = holds
		}
	}
	return all
}

// drop forgets names that have been judged.
func (w *witness) drop(wanted func(name string) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.DeleteFunc(w.holds, func(name string, _ []hold) bool { return wanted(name) })
}

// overlaps tells where more believed in a lock than may hold it, by the clock on the
// wall, and where a token was not larger than all before. It is enough to tell each lock's
// first of both.
func overlaps(name string, holds []hold) (found []error) {
	var live []hold
	var last hold // with the largest token
	many, back := false, false
	for _, h := range holds {
		live = slices.DeleteFunc(live, func(o hold) bool { return o.To <= h.From })
		if h.To > h.From {
			live = append(live, h)
		}
		if len(live) > h.Limit && !many {
			many = true
			found = append(found, fmt.Errorf("%s has %d holders at once, and %d may be: %v", name, len(live), h.Limit, live))
		}
		if h.Token == 0 {
			continue
		}
		same := h.Token == last.Token && h.Owner == last.Owner
		if h.Token <= last.Token && h.Asked > last.From && !same && !back {
			back = true
			found = append(found, fmt.Errorf("%s: token %d follows token %d: %v, %v", name, h.Token, last.Token, last, h))
		}
		if h.Token > last.Token {
			last = h
		}
	}
	return found
}

// judge tells what is wrong with the locks in those names.
func (w *witness) judge(wanted func(name string) bool) (found []error) {
	for name, holds := range w.sorted(wanted) {
		found = append(found, overlaps(name, holds)...)
		if err := linearizable(name, holds); err != nil {
			found = append(found, err)
		}
	}
	return found
}
