// Command model plays the rules of lockd's cluster through, in all ways in which nodes, etcd,
// homes and clients can act, crash, pause and lose messages, and looks for two who believe
// that they hold the same lock. It knows nothing of lockd's code: it is the rules, as small as
// they can be, and shows what each of them is for: weakened, it has to go wrong.
//
//	go run . list          what there is, and whether it must hold or must be caught
//	go run .               the quick ones, a minute or two on two cores
//	go run . -all          all: hours, and some of them are cut off at 100 million states, 5 GB
//	go run . NAME...       these, or all that begin with NAME-
//	go run . -weak RULE NAME
//
// A run is breadth first over explicit states, so what is wrong comes with the shortest trace.
// It says "holds, complete" when there is no further state, and CUT OFF where it stopped, which
// says neither. lease-all, a move, a deletion, a crash and a restart together, has 11 million
// states and takes two minutes on two cores.
//
// # What is promised
//
//   - P1: never do more believe in a lock than its limit.
//   - P2: a token that is accepted is larger than all that were accepted before (where tokens
//     are numbers, and the lock exclusive).
//   - P3: a client that has been confirmed in time is never refused what it holds: its claim
//     is taken, at the owner that it had, at one that recovers and at one that got a copy.
//
// # Who acts
//
// etcd (etcd.go) has registrations and the map, and deletes who is silent. A node (node.go)
// has the right to serve for a while after each heartbeat, crashes, starts again, and adopts
// maps, late. As an owner (own.go) it executes, frees and recovers; it moves a partition to
// another (move.go). As a home (home.go) it keeps a lease for each owner, confirms clients,
// and claims for them; a client (client.go) asks, releases, and resumes at another home. Time
// (clock.go) comes in ticks.
//
// # Time
//
// A tick is real time. What must end early is given with the slowest clock that is allowed,
// what must wait with the fastest: so one number each is enough. W, a node's right, from the
// sending of a heartbeat. BW, how long somebody is silent before it is deleted. G, how long an
// owner waits before it frees, and recovers. Link, a home's lease, from the sending of a
// request that was answered. Client, a client's deadline from the sending of what was
// confirmed. What has to end does so in a tick; whatever may be late is a step of its own,
// that need never come: a pause, a delay and a loss are the same.
//
// # The two variants
//
// With leases, a home confirms a client while at least the client's deadline is left of the
// lease of the owner at which it holds. End to end, it answers a ping after the owner has
// answered a ping of the link that was sent later. In both, all that is held by a link lives
// by any request of it, an answer says under which version of the map it was given, and a home
// that knows only an older one asks for the map first.
//
// # What is left out, and why it may be
//
//   - Between client and home nothing is delayed: that only brings a deadline forward.
//   - A turn of an owner is one step: it goes by one reading of the clock, so what is late in
//     it is its answers.
//   - A transaction that compares is one step: it commits late or at once, if what it compares
//     is still so. (A hand-over's is two, as its sender waits for it.)
//   - Heartbeats are one step, but in the slow configurations.
//   - A node that owns nothing needs no heartbeats, but in the idle configurations.
//   - A partition has one lock, and a client wants one: who holds at two owners is confirmed
//     only while both leases allow it, which is less. A second partition shares the map.
//   - Of what a client has left at earlier homes, one thing at a time.
//   - Tokens, generations, nonces and versions are ranks: only their order counts. So runs end
//     without a bound on them; nobody lags by more than 5 versions. Where tokens are numbers,
//     there are few.
//   - Rates, waits and their order; etcd's snapshots (rules 14, 15): nothing is believed there.
//   - That things go on. The tests see that all kinds of steps happen.
//
// States are kept as 64 bits each: that two have the same and one is missed has a probability
// of n*n / 2^65, 1 in 3,700 for 100 million.
package main
