package main

// trace returns what happens on the shortest way to what is wrong. Names of nodes and clients
// are those of the first state all the way, though the states that were met have others.
// Tokens are ranks, as in these.
func (e *explorer) trace() []string {
	var way []uint64
	for at := e.lastAt; at != 0; at = e.seen.before(at) {
		way = append(way, at)
	}
	s := e.first()
	e.tidy(&s)
	var said []string
	for i := len(way) - 2; i >= 0; i-- {
		l, to, found := e.find(&s, func(t *State, _ label, wrong string) bool {
			u := *t
			return wrong == "" && fingerprint(e.canonical(&u, nil)) == way[i]
		})
		if !found {
			return append(said, "(the way is lost: two states have one fingerprint)")
		}
		said = append(said, l.String())
		e.tidy(&to)
		s = to
	}
	l, _, _ := e.find(&s, func(_ *State, l label, wrong string) bool {
		return wrong == e.wrong && l.text == e.last.text
	})
	return append(said, l.String())
}

// find returns the first step from s that is as wanted, and where it goes.
func (e *explorer) find(s *State, wanted func(*State, label, string) bool) (l label, to State, found bool) {
	x := stepper{Config: e.Config, s: s}
	x.out = func(t *State, by label, wrong string) {
		if !found && wanted(t, by, wrong) {
			l, to, found = by, *t, true
		}
	}
	x.steps()
	return l, to, found
}
