package cluster

import (
	"encoding/json"
)

// A Node is a registered process: the value of P/node/ID, which the process itself
// writes with each heartbeat.
type Node struct {
	// ID is random, and of one process: after a restart, or when its registration
	// was lost, it has another one.
	ID string `json:"id"`
	// Name is a label for people, and what a drain is for: it stays over restarts.
	Name string `json:"name"`
	// Addr is where the other nodes' links go, and Admin its HTTP address, if any.
	Addr  string `json:"addr"`
	Admin string `json:"admin,omitempty"`
	// Version is lockd's, Protocol what it speaks to other nodes.
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
	// Seq counts heartbeats, so that no two values are the same.
	Seq uint64 `json:"seq"`
	// Ceil is what all fencing tokens that it grants are below.
	Ceil uint64 `json:"ceil"`
	// Map is the version of the newest map it has adopted.
	Map uint64 `json:"map"`
	// Leaving: it shuts down, and wants to be rid of its partitions.
	Leaving bool `json:"leaving,omitempty"`
	// Status is what its host says of itself.
	Status

	raw string // as it was read, of a later version perhaps
}

// A Status is how a node's partitions are.
type Status struct {
	Serving    int `json:"serving"`
	Recovering int `json:"recovering"`
	Frozen     int `json:"frozen"`
	// Unwell says in a few words why no partition shall be moved to or by this node for
	// now; empty if it is well.
	Unwell string `json:"unwell,omitempty"`
}

// Encode is the value of P/node/ID, as it was read if it was.
func (n *Node) Encode() string {
	if n.raw == "" {
		text, _ := json.Marshal(n)
		return string(text)
	}
	return n.raw
}

// Readable tells whether its registration could be read.
func (n *Node) Readable() bool { return n.Protocol != 0 }

// DecodeNode reads the value of P/node/ID. One that cannot be read, of a later lockd
// perhaps, is a node all the same: it may live, and have the right to serve. So it is
// seen to beat, and deleted when it does not, and that it is not well keeps partitions
// from being moved. It has no protocol, and is given none.
func DecodeNode(id, text string) Node {
	n := Node{raw: text}
	err := json.Unmarshal([]byte(text), &n)
	if err == nil && n.ID == id && validID(id) {
		return n
	}
	return Node{ID: id, Name: "?", raw: text, Status: Status{Unwell: "its registration cannot be read"}}
}
