//go:build linux

package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
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
	From  time.Duration // when the grant was received
	Asked time.Duration // when it was asked for
	To    time.Duration
	Left  time.Duration // when the release was answered; 0: it has ended in another way
	Token uint64        // 0: unknown, as in protocol 1
	Limit int           // of holders
}

// A note is one of these, or something lost, as it is written by processes of their own.
type note struct {
	Hold   *hold   `json:",omitempty"`
	Taking *taking `json:",omitempty"`
	Loss   *loss   `json:",omitempty"`
	Count  string  `json:",omitempty"`
}

// A loss is a lock that its holder has not released, but lost.
type loss struct {
	Kind string // of client
	What string
	Why  string
	At   time.Duration
	// Early is that the holder's own deadline had not passed: what must not be.
	Early bool
}

// A witness hears from all clients what they hold, and when.
type witness struct {
	mu      sync.Mutex // guards what follows
	holds   []hold
	takings []taking
	losses  []loss
	counts  map[string]int
	owners  int
	starts  []time.Duration // of servers
	out     *json.Encoder   // a child writes all to its parent
}

func newWitness() *witness { return &witness{counts: map[string]int{}} }

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
		w.holds = append(w.holds, *n.Hold)
	case n.Taking != nil:
		w.takings = append(w.takings, *n.Taking)
	case n.Loss != nil:
		w.losses = append(w.losses, *n.Loss)
	case n.Count != "":
		w.counts[n.Count]++
	}
}

func (w *witness) count(what string) { w.note(note{Count: what}) }

// lost notes a loss, and what it was about.
func (w *witness) lost(l loss) {
	l.At = now()
	w.note(note{Loss: &l})
}

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

// byName returns all holds by name, each name's in the order of their beginnings.
func (w *witness) byName() map[string][]hold {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string][]hold{}
	for _, h := range w.holds {
		all[h.Name] = append(all[h.Name], h)
	}
	for _, holds := range all {
		slices.SortFunc(holds, func(a, b hold) int { return cmp.Compare(a.From, b.From) })
	}
	return all
}

// overlaps tells where more believed in a lock than may hold it, by the clock on the
// wall, and where a token was not larger than all before.
func (w *witness) overlaps() (found []error) {
	for name, holds := range w.byName() {
		var live []hold
		var last hold // with the largest token
		for _, h := range holds {
			live = slices.DeleteFunc(live, func(o hold) bool { return o.To <= h.From })
			if h.To > h.From {
				live = append(live, h)
			}
			if len(live) > h.Limit {
				found = append(found, fmt.Errorf("%s has %d holders at once, and %d may be: %v", name, len(live), h.Limit, live))
			}
			if h.Token == 0 {
				continue
			}
			if h.Token <= last.Token && h.Asked > last.From {
				found = append(found, fmt.Errorf("%s: token %d follows token %d: %v, %v", name, h.Token, last.Token, last, h))
			}
			if h.Token > last.Token {
				last = h
			}
		}
	}
	return found
}

func (h hold) String() string {
	return fmt.Sprintf("[owner %d token %d asked %v from %v to %v left %v]", h.Owner, h.Token, h.Asked, h.From, h.To, h.Left)
}

// early returns the losses that must not be.
func (w *witness) early() (found []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.losses {
		if l.Early {
			found = append(found, fmt.Errorf("at %v a %s has lost %s before its deadline: %s", l.At, l.Kind, l.What, l.Why))
		}
	}
	return found
}

// findings returns all of that, with what porcupine finds.
func (w *witness) findings() []error {
	all := slices.Concat(w.overlaps(), w.overdrawn(), w.early(), w.histories())
	if len(all) > 20 {
		all = append(all[:20], fmt.Errorf("and %d more", len(all)-20))
	}
	return all
}

// newNotes has a witness write to somebody who hears.
func newNotes(to io.Writer) *json.Encoder { return json.NewEncoder(to) }
