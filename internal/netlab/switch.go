package netlab

// A Drop is packets that a machine loses.
type Drop struct {
	// In and Out are percents of those that come in and go out, each by chance.
	In, Out int
	// Peers are whose packets it is about; none: everybody's.
	Peers []*Machine
}
