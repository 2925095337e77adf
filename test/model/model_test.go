package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What holds, small, and completely.
func TestHolds(t *testing.T) {
	for _, name := range []string{"lease-failover", "lease-move", "e2e-move", "three-failover", "two-failover", "lease-crash"} {
		t.Run(name, func(t *testing.T) {
			c := chosen([]string{name})[0]
			small(&c, t)
			r := explore(&c)
			if !asWanted(&c, r) {
				t.Errorf("%d states, cut off: %v, %s\n%s", r.States, r.Cut, r.Wrong, strings.Join(r.Trace, "\n"))
			}
			t.Logf("%d states, %d steps, depth %d, %v", r.States, r.Steps, r.Depth, r.Took)
		})
	}
}

// small takes the smallest times, and with -short leaves out what takes longest.
func small(c *Config, t *testing.T) {
	if tight(c); testing.Short() {
		c.Crashes = 0
	}
}

// Each weakened rule is caught, or the model does not show what the rule is for.
func TestCaught(t *testing.T) {
	for _, c := range weakened() {
		t.Run(c.Name, func(t *testing.T) {
			c.Max = 5_000_000
			r := explore(&c)
			if !asWanted(&c, r) {
				t.Fatalf("%s: is not caught in %d states", c.Why, r.States)
			}
			for _, l := range r.Trace {
				if strings.Contains(l, "fingerprint") {
					t.Error("the trace is not whole")
				}
				t.Log(l)
			}
			t.Log("=>", r.Wrong)
		})
	}
}

// Nothing that a configuration is for is left out: moves are done, claims are taken.
func TestHappens(t *testing.T) {
	for name, what := range map[string][]string{
		"lease-move":  {"transaction commits", "writes the map back", "unfreezes", "takes the claim", "confirms {c} by its lease", "ends the recovery", "is deleted", "says bye"},
		"e2e-move":    {"ping comes to", "answers {n}'s ping", "transaction commits"},
		"lease-crash": {"CRASHES", "starts again", "resumes at", "registers"},
	} {
		c := chosen([]string{name})[0]
		tight(&c)
		r := explore(&c)
		for _, w := range what {
			found := false
			for text := range r.Count {
				found = found || strings.Contains(text, w)
			}
			if !found {
				t.Errorf("%s: nothing like %q happens in %d states", name, w, r.States)
			}
		}
	}
}

// What is packed is all that there is, and to be canonical is to stay so, whatever the names.
func TestCanonical(t *testing.T) {
	for _, c := range configs() {
		if c.Long && testing.Short() {
			continue
		}
		r := rand.New(rand.NewPCG(1, 2))
		for range 20 {
			s := c.first()
			for range 60 {
				var next []State
				x := stepper{Config: &c, s: &s}
				x.out = func(t *State, _ label, _ string) { next = append(next, *t) }
				x.steps()
				s = next[r.IntN(len(next))]
				b := slices.Clone(c.canonical(&s, nil))
				var u State
				if rest := c.unpack(b, &u); len(rest) > 0 {
					t.Fatalf("%s: %d bytes are left of a packed state", c.Name, len(rest))
				}
				if again := c.canonical(&u, nil); !slices.Equal(again, b) {
					t.Fatalf("%s: a canonical state has another canonical form:\n%v\n%v", c.Name, b, again)
				}
				if c.Nodes < 2 || c.At != nil {
					continue
				}
				other := c.rename(&s, names{node: [maxNodes]uint8{1, 0, 2}, client: [maxClients]uint8{1, 0, 2}})
				if got := c.canonical(&other, nil); !slices.Equal(got, b) {
					t.Fatalf("%s: with other names a state has another canonical form:\n%v\n%v", c.Name, b, got)
				}
			}
		}
	}
}

// What was cut off says so, and is not taken for complete.
func TestCut(t *testing.T) {
	c := chosen([]string{"lease-failover"})[0]
	c.Max = 1000
	if r := explore(&c); !r.Cut || asWanted(&c, r) {
		t.Errorf("after %d states: cut off: %v", r.States, r.Cut)
	}
	var out strings.Builder
	if run(&out, &c, false, true); !strings.Contains(out.String(), "CUT OFF") {
		t.Error(out.String())
	}
}

// Names on the command line.
func TestChoice(t *testing.T) {
	for _, all := range []bool{false, true} {
		cs, err := choice(nil, all, "", 0)
		if err != nil || len(cs) == 0 {
			t.Fatal(len(cs), err)
		}
	}
	cs, err := choice([]string{"w"}, false, "", 10)
	if err != nil || len(cs) != len(weakened()) || cs[0].Max != 10 {
		t.Fatal(len(cs), err)
	}
	if _, err := choice([]string{"nothing"}, false, "", 0); err == nil {
		t.Error("there is something named nothing")
	}
	if _, err := choice(nil, false, "nothing", 0); err == nil {
		t.Error("a rule is named nothing")
	}
	cs, err = choice([]string{"lease-move"}, false, "doubt,nogen", 0)
	if err != nil || len(cs) != 1 || cs[0].Weak != doubt|noGen || cs[0].Weak.String() != "doubt,nogen" {
		t.Fatal(cs, err)
	}
	var seen []string
	for _, c := range configs() {
		if slices.Contains(seen, c.Name) {
			t.Error("two are named", c.Name)
		}
		seen = append(seen, c.Name)
		if c.Nodes > maxNodes || c.Clients > maxClients || c.Parts > maxParts || c.Limit > maxHolds || int(c.Changes) >= maxVers {
			t.Error(c.Name, "is too large")
		}
	}
}
