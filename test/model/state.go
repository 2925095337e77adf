package main

// The most of each that a configuration may have. A state is a value of bytes without
// pointers: it can be copied, compared and hashed.
const (
	maxNodes   = 3
	maxClients = 3
	maxParts   = 2
	maxHolds   = 2 // the limit of a lock
	maxVers    = 6 // versions of the map that anybody still refers to
)

const none = 255 // no node

// A State is all that there is at a moment: etcd, nodes, clients, and what is on its way.
type State struct {
	top     uint8 // the newest version of the map
	vers    [maxVers]version
	nodes   [maxNodes]node
	clients [maxClients]client

	// What may still happen, so that a run ends. unlimited is not counted.
	crashes, changes, moves, resumes uint8

	// The highest token that a client has accepted, and who (client + 1). Only where tokens
	// are numbers and not just an order.
	accepted, acceptedBy uint8
}

const unlimited = 255

// A version of the map, which is one key.
type version struct {
	of   [maxParts]entry
	base uint8
}

// An entry says whose a partition is.
type entry struct {
	owner uint8
	nonce uint8 // of the copy to serve; 0: recover
	same  uint8 // 1: nothing has changed for this partition, it has the epoch of the version before
}

// The phases of a node's partition.
const (
	absent     = iota
	recovering // takes claims, grants nothing
	serving
	frozen // a copy is on its way; nothing is executed
	sent   // so is the transaction, whose outcome is unknown
)

type node struct {
	up    uint8 // its process runs
	reg   uint8 // what etcd has: 0 nothing, 1 this process's registration, 2 a dead process's
	in    uint8 // 1: its process takes itself for registered
	quiet uint8 // ticks since etcd had its last heartbeat
	right uint8 // ticks for which it may still serve
	known uint8 // version of the map

	beat, beatAge, beatVer uint8 // a heartbeat on its way, see etcd.go

	ceil, regCeil uint8 // tokens: what it knows that etcd has, and what etcd has
	doomed        uint8 // a deletion of it is on its way that compares nothing (weakened rules only)

	parts  [maxParts]part
	copies [maxParts]copied
	lease  [maxNodes]uint8 // as a home: ticks that are left of each owner's
	ping   [maxNodes]ping  // as a home: a link's ping, to each owner
}

// A part is an owner's table of one partition, which has one lock.
type part struct {
	phase uint8
	wait  uint8 // recovering: ticks
	next  uint8 // token, where they are numbers
	to    uint8 // a move: to whom,
	nonce uint8 // with which copy,
	txn   uint8 // and 1 while its transaction may still come to etcd, also if its sender is dead
	holds [maxHolds]hold
}

// A hold is a place in a lock that somebody has.
type hold struct {
	who  uint8 // client + 1; 0: free
	gen  uint8 // generation of the holder
	tok  uint8
	age  uint8 // ticks since the last request of its link was executed
	home uint8 // node + 1; 0: nobody has claimed it since it came in a copy
}

// copied is a table on its way to the node, or there.
type copied struct {
	at    uint8 // 0 nothing, 1 on its way, 2 there
	nonce uint8
	next  uint8
	holds [maxHolds]hold
}

// A ping of a home's link to an owner.
type ping struct {
	at  uint8 // 0 nothing, 1 on its way, 2 its answer is
	age uint8 // ticks since it was sent
	ver uint8 // answer: the map's version that the owner knew
}

// Kinds of requests.
const (
	get = 1 + iota
	release
	claim
	record // nothing on its way, but a home remembers a hold; see stale
)

type client struct {
	home uint8
	gen  uint8
	left uint8 // ticks for which it believes that it holds
	tok  uint8 // of what it believes

	msg    msg
	record remembered
	stale  stale

	// Where confirmations are end to end: 1 a ping has come to its home, 2 and the home's
	// link has sent one since.
	ask, askAge uint8
}

// A msg is a request of a client, or a claim for it, between its home and an owner.
type msg struct {
	at   uint8 // 0 nothing, 1 on its way, 2 success is on its way back, 3 failure is
	kind uint8
	age  uint8 // ticks since it was sent
	to   uint8
	tok  uint8
	ver  uint8 // request: the map's version that its home knew; answer: the owner's
}

// remembered is what a home knows of a client's hold.
type remembered struct {
	tok  uint8 // 0: nothing
	tied uint8 // node + 1 whose lease it has; 0: frozen
	left uint8 // frozen: ticks
}

// stale is what is left at an earlier home of a client that has resumed elsewhere.
type stale struct {
	kind uint8 // 0: nothing
	home uint8
	gen  uint8
	tok  uint8
	to   uint8
	ver  uint8
	left uint8 // ticks for which the home still remembers, from the lease's length on
}

// epoch is the version in which the partition came to who has it in version v.
func (s *State) epoch(p int, v uint8) uint8 {
	for v > 0 && s.vers[v].of[p].same != 0 {
		v--
	}
	return v
}

func (s *State) owner(p int, v uint8) uint8 { return s.vers[v].of[p].owner }

// holdOf returns the client's place, or nil.
func (t *part) holdOf(k int) *hold {
	for i := range t.holds {
		if t.holds[i].who == uint8(k+1) {
			return &t.holds[i]
		}
	}
	return nil
}

// drop forgets the table, but not a transaction that is on its way.
func (t *part) drop() {
	*t = part{to: t.to, nonce: t.nonce, txn: t.txn}
}
