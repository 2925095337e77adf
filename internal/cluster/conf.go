package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What a cluster has if nobody says otherwise.
const (
	DefaultW = 5 * time.Second
	DefaultG = 25 * time.Second
)

// Bounds of W: below, an etcd that elects a leader stops the cluster; above, nobody
// waits for a fail-over any more.
const (
	MinW = 500 * time.Millisecond
	MaxW = 5 * time.Minute
	MaxG = time.Hour
)

// A Conf is what a cluster is, written once, by `lockd cluster init`.
type Conf struct {
	// World is the cluster's random ID: an etcd that has another one is not ours.
	World string
	// W is how long a node may serve after its last heartbeat was sent.
	W time.Duration
	// G is the longest that anybody may believe in a lock without hearing of it.
	G time.Duration
	// Partitions and Protocol are the constants of that name when it was made.
	Partitions int
	Protocol   int
}

// NewConf makes the conf of a new cluster. 0 is the default.
func NewConf(w, g time.Duration) (Conf, error) {
	if w == 0 {
		w = DefaultW
	}
	if g == 0 {
		g = DefaultG
	}
	c := Conf{World: newID(), W: w, G: g, Partitions: Partitions, Protocol: Protocol}
	return c, c.Validate()
}

// Validate says what is wrong with a conf.
func (c Conf) Validate() error {
	switch {
	case !validID(c.World):
		return fmt.Errorf("world %q is no cluster's ID", c.World)
	case c.W < MinW || c.W > MaxW:
		return fmt.Errorf("how long a node may serve after a heartbeat (W) is %v: want %v to %v", c.W, MinW, MaxW)
	case c.W%time.Millisecond != 0 || c.G%time.Millisecond != 0:
		return errors.New("parts of a millisecond are no matter of W and G")
	case c.G <= c.W:
		return fmt.Errorf("the longest that a holder may go without hearing of its lock (G) is %v, and a node serves for %v after a heartbeat (W): G has to be more, or each short outage loses locks", c.G, c.W)
	case c.G > MaxG:
		return fmt.Errorf("the longest that a holder may go without hearing of its lock (G) is %v: want at most %v, for in each fail-over nobody gets anything for that long", c.G, MaxG)
	case c.Partitions != Partitions:
		return fmt.Errorf("the cluster has %d partitions, this lockd cuts names into %d", c.Partitions, Partitions)
	case c.Protocol < 1:
		return fmt.Errorf("protocol %d is none", c.Protocol)
	case c.Protocol > Protocol:
		return fmt.Errorf("the cluster speaks protocol %d, this lockd %d: it is too old for this cluster", c.Protocol, Protocol)
	}
	return nil
}

// Beat is how often a node says that it lives.
func (c Conf) Beat() time.Duration { return c.W / 3 }

// Silence is after how long without a sign a node is deleted.
func (c Conf) Silence() time.Duration { return c.W + c.W/10 }

// Recovery is for how long a partition's new owner gives out nothing.
func (c Conf) Recovery() time.Duration { return c.G + c.G/10 }

type confText struct {
	World      string `json:"world"`
	W          int64  `json:"w_ms"`
	G          int64  `json:"g_ms"`
	Partitions int    `json:"partitions"`
	Protocol   int    `json:"protocol"`
}

// Encode is the value of P/conf.
func (c Conf) Encode() string {
	text, _ := json.Marshal(confText{c.World, c.W.Milliseconds(), c.G.Milliseconds(), c.Partitions, c.Protocol})
	return string(text)
}

// DecodeConf reads one. It is not validated: who only shows it may be too old.
func DecodeConf(text string) (Conf, error) {
	var t confText
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return Conf{}, fmt.Errorf("the cluster's conf cannot be read: %w", err)
	}
	return Conf{t.World, time.Duration(t.W) * time.Millisecond, time.Duration(t.G) * time.Millisecond, t.Partitions, t.Protocol}, nil
}
