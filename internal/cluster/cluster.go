// Package cluster is what makes several lockd one: who is a member, and which member
// owns which partition of the names. It never sees a lock.
//
// An etcd keeps it, in four kinds of keys (Conf, Node, Map, Want), and a Store is all
// that is asked of that. A Member is one process's part: it registers, says that it
// lives, and from the answers knows until when it may serve (Right) and which
// partitions are its own (Host.Adopt). Beside that each member looks after the others:
// it deletes who has been silent for too long, gives away what that one owned, and
// moves its own partitions to where they are to be. There is no leader, and nothing
// is elected: each change is one transaction that compares what it rests on.
//
// The invariant: while a process has the right to serve (now < Right), no map in the
// store gives any of its partitions, as of the newest map it has adopted, to somebody
// else, unless it was the one that moved it. Everything else may be late, lost or
// made twice.
//
// The package knows nothing of etcd, has no sockets, and asks no clock but those in
// Options. What a partition is, how it is frozen, copied and recovered, is the Host's.
package cluster

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
)

// Protocol is what members of one cluster speak to each other. A process joins no
// cluster whose conf has a newer one.
const Protocol = 1

// Partitions is how many parts the names are cut into.
const Partitions = 1024

// newID makes what names a process, or a cluster.
func newID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// newNonce makes a number that was never there, and is not 0.
func newNonce() uint64 {
	for {
		var b [8]byte
		rand.Read(b[:])
		if n := binary.BigEndian.Uint64(b[:]); n != 0 {
			return n
		}
	}
}

// validID tells whether a text is what newID makes.
func validID(id string) bool {
	b, err := hex.DecodeString(id)
	return err == nil && len(b) == 8
}
