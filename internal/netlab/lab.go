// Package netlab has what tests use that cut networks: two machines with a cable
// between them, each a network namespace; and an address of their own for those
// that close a port. It is for tests alone.
package netlab

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

// Near and Far are the machines' addresses.
const (
	Near = "10.99.0.1"
	Far  = "10.99.0.2"
)
