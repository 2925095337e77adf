// Package netlab has what tests use that cut networks: two machines with a cable
// between them, each a network namespace; and an address of their own for those
// that close a port. It is for tests alone: a Lab is for those that go test runs, and
// a Cable for programs, too.
package netlab

import "errors"

// ErrUnavailable is that there can be no cable on this machine, or for this user.
var ErrUnavailable = errors.New("no network namespaces")

// A Way is which packets a cut drops, as the far machine sees them.
type Way int

// The ways to cut.
const (
	Both     Way = iota // it neither hears nor is heard
	Deaf                // it hears nothing, but is heard
	Mute                // it is not heard, but hears
	LinkDown            // the cable is unplugged at its own end
	FarDown             // the cable is unplugged at the near end
)

func (w Way) String() string {
	return [...]string{"both", "deaf", "mute", "link down", "far link down"}[w]
}

// Ways are all of them.
var Ways = []Way{Both, Deaf, Mute, LinkDown, FarDown}

// A Loss is which packets a bad cable loses, as the far machine sees them.
type Loss struct {
	// Percent of those that come in and of those that go out, each by chance.
	In, Out int
	// All of those connections that the far machine has made from a port that is Part
	// modulo Parts, a power of two, so that neither end hears anything more of the
	// other, while connections that are made anew may get through. 0 Parts: of none.
	Part, Parts int
}

// Near and Far are the machines' addresses.
const (
	Near = "10.99.0.1"
	Far  = "10.99.0.2"
)
