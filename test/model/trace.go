package main

// trace returns what happens on the shortest way to a state. Names of nodes and clients are
// those of the first state all the way, though the states that were met have others. Tokens
// are ranks, as in these.
func (e *explorer) trace(state uint64) []string {
	var way []uint64
	for at := state; at != 0; at = e.seen.before(at) {
		way = append(way, at)
	}
	s := e.first()
	var said []string
	for i := len(way) - 2; i >= 0; i-- {
		var found bool
		var to State
		x := stepper{Config: e.Config, s: &s}
		x.out = func(t *State, l label, _ string) {
			if found {
				return
			}
			u := *t
			if fingerprint(e.canonical(&u, nil)) == way[i] {
				found, to = true, *t
				said = append(said, l.String())
			}
		}
		x.steps()
		if !found {
			return append(said, "(and on, but the way is lost: two states have one fingerprint)")
		}
		e.tidy(&to)
		s = to
	}
	return said
}
