package main

import (
	"slices"
	"strings"
)

// base is what the others change a little: the variant that is built, with leases, in the
// smallest times in which each deadline differs from the next.
func base() Config {
	return Config{
		Nodes: 2, Clients: 2, Parts: 1, Limit: 1,
		Homes: []int{0, 1, 1}, Owners: []int{0, 1},
		W: 2, BW: 2, G: 3, Link: 3, Client: 2,
		Changes: 1, MaxToken: 3, Reserve: 2,
	}
}

// tight has the smallest times of all: a client can be confirmed only at once after its home
// has heard from the owner.
func tight(c *Config) { c.G, c.Link, c.Client = 2, 2, 2 }

// endToEnd has homes that forward each ping.
func endToEnd(c *Config) {
	tight(c)
	c.EndToEnd = true
}

// third has three nodes: owner, next owner, and the home of client 0.
func third(c *Config) {
	c.Nodes, c.Homes = 3, []int{2, 1, 1}
}

func configs() []Config {
	var all []Config
	add := func(long bool, name, why string, set ...func(*Config)) {
		c := base()
		c.Name, c.Why, c.Long = name, why, long
		if long {
			c.Max = 100_000_000
		}
		for _, f := range set {
			f(&c)
		}
		all = append(all, c)
	}
	may := func(changes, moves, crashes, resumes uint8) func(*Config) {
		return func(c *Config) { c.Changes, c.Moves, c.Crashes, c.Resumes = changes, moves, crashes, resumes }
	}
	idle := func(c *Config) { c.Idle = true }
	slow := func(c *Config) { c.SlowBeats = true }
	tokens := func(c *Config) { c.Tokens = true }
	shared := func(c *Config) { c.Clients, c.Limit = 3, 2 }
	two := func(c *Config) { c.Parts = 2 }
	rivals := func(c *Config) { c.Clients = 3 }

	const quick, long = false, true
	add(quick, "lease-failover", "leases, an owner is deleted", may(1, 0, 0, 0))
	add(quick, "lease-failover-2", "leases, two fail-overs", may(2, 0, 0, 0))
	add(quick, "lease-move", "leases, a move", may(1, 1, 0, 0))
	add(quick, "lease-move-deletion", "leases, a move and a deletion", may(2, 1, 0, 0), tight)
	add(quick, "lease-crash", "leases, a crash and a restart", may(1, 0, 1, 0))
	add(quick, "lease-resume", "leases, a client that goes to another home", may(1, 0, 0, 1), tight)
	add(quick, "e2e-failover-2", "end to end, two fail-overs", may(2, 0, 0, 0), endToEnd)
	add(quick, "e2e-move", "end to end, a move", may(1, 1, 0, 0), endToEnd)
	add(quick, "shared-failover", "a limit of 2, three clients, an owner is deleted", may(1, 0, 0, 0), shared, tight)
	add(quick, "tokens-failover", "tokens below ceilings, an owner is deleted", may(1, 0, 0, 0), tokens)
	add(quick, "slow-failover", "heartbeats on their way for some time", may(1, 0, 0, 0), slow, tight)
	add(quick, "three-failover", "three nodes, an owner is deleted", may(1, 0, 0, 0), third, tight)
	add(quick, "two-failover", "two partitions, two owners, one map", may(1, 0, 0, 0), two, tight)

	add(long, "lease-move-deletion-3", "leases, a move and a deletion, longer times", may(2, 1, 0, 0))
	add(long, "lease-all", "leases, a move, a deletion, a crash and a restart", may(2, 1, 1, 0), tight)
	add(long, "lease-all-3", "leases, a move, a deletion, a crash and a restart, longer times", may(2, 1, 1, 0))
	add(long, "lease-all-more", "leases, two moves, three changes, a crash", may(3, 2, 1, 0), tight)
	add(long, "lease-resume-3", "leases, a client that goes to another home, longer times", may(1, 0, 0, 1))
	add(long, "lease-resume-move", "leases, a move and a client that goes to another home", may(1, 1, 0, 1), tight)
	add(long, "lease-resume-crash", "leases, a crash and a client that goes to another home", may(1, 0, 1, 1), tight)
	add(long, "lease-resume-2", "leases, clients that go to another home twice", may(1, 0, 0, 2), tight)
	add(long, "e2e-all", "end to end, a move, a deletion, a crash and a restart", may(2, 1, 1, 0), endToEnd)
	add(long, "e2e-resume", "end to end, a client that goes to another home", may(1, 0, 0, 1), endToEnd)
	add(long, "shared-move", "a limit of 2, three clients, a move", may(1, 1, 0, 0), shared, tight)
	add(long, "shared-all", "a limit of 2, a move, a deletion, a crash", may(2, 1, 1, 0), shared, tight)
	add(long, "tokens-move", "tokens below ceilings, a move and a deletion", may(2, 1, 0, 0), tokens, tight)
	add(long, "tokens-failover-2", "tokens below ceilings, two fail-overs", may(2, 0, 0, 0), tokens, tight)
	add(long, "slow-move", "heartbeats on their way for some time, a move", may(1, 1, 0, 0), slow, tight)
	add(long, "three-move", "three nodes, a move", may(1, 1, 0, 0), third, tight)
	add(long, "three-move-idle", "three nodes that all send heartbeats, a move", may(1, 1, 0, 0), third, tight, idle)
	add(long, "three-move-deletion", "three nodes, a move and a deletion", may(2, 1, 0, 0), third, tight)
	add(long, "three-moves", "three nodes, two moves, and homes that see only the last", may(2, 2, 0, 0), third, tight)
	add(long, "three-all", "three nodes, a move, a deletion, a crash and a restart", may(2, 1, 1, 0), third, tight)
	add(long, "three-failover-2", "three nodes, two fail-overs", may(2, 0, 0, 0), third, tight)
	add(long, "two-move", "two partitions, two owners, a move and a deletion", may(2, 1, 0, 0), two, tight)
	add(long, "two-locks", "two partitions with a lock each, a move and a deletion", may(2, 1, 0, 0), two, tight,
		func(c *Config) { c.Clients, c.At = 3, []int{0, 0, 1} })
	add(long, "rivals", "three clients, an owner is deleted", may(1, 0, 0, 0), rivals, tight)
	add(long, "notoken", "is it needed that a release names its token? Not where generations are compared", may(1, 0, 0, 1), tight,
		func(c *Config) { c.Weak = noToken })
	return append(all, weakened()...)
}

// weakened has the smallest configuration for each weakened rule in which it is caught.
func weakened() []Config {
	var all []Config
	for i, k := range weaknesses {
		w := weakness(1) << i
		if w == noToken {
			continue // not needed, see above
		}
		c := base()
		c.Name, c.Why, c.Weak, c.Want = "w-"+k.name, k.what, w, "P"
		switch w {
		case rightReply:
			tight(&c)
			c.SlowBeats = true
		case sameName:
			c.Crashes = 1
		case oldMap:
			tight(&c)
			c.Changes = 2
			c.W, c.BW = 1, 1
		case noNonce, sameNonce, unfreezes:
			c.Changes, c.Moves = 2, 2
		case impatient:
			tight(&c)
			c.W, c.BW = 3, 3
		case doubt:
			tight(&c)
			c.Moves = 1
		case oldAnswers, extendMoved:
			tight(&c)
			third(&c)
			c.W, c.BW = 1, 1
			c.Moves, c.Parts, c.Owners = 1, 2, []int{0, 0} // it goes on to answer, for the other partition
		case homeAnswers:
			endToEnd(&c)
		case oneClaim, perHold:
			tight(&c)
			c.Clients, c.Limit = 3, 2
		case byeSoon, noGen, oldRepeat, claimCreates, lowWins:
			tight(&c)
			c.Resumes = 1
			c.W, c.BW = 1, 1
		case noBase, noCeil:
			tight(&c)
			c.Tokens = true
		}
		all = append(all, c)
	}
	return all
}

// chosen returns the configurations with these names; where there is none, those whose names
// begin with it and "-".
func chosen(names []string) (some []Config) {
	all := configs()
	for _, n := range names {
		exact := slices.ContainsFunc(all, func(c Config) bool { return c.Name == n })
		for _, c := range all {
			if c.Name == n || !exact && strings.HasPrefix(c.Name, n+"-") {
				some = append(some, c)
			}
		}
	}
	return some
}
