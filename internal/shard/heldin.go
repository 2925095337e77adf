package shard

// HeldIn goes over what an owner holds in some partitions, in doubt or not, in pieces.
// The set is partitioned, or a mirror.
type HeldIn struct {
	set *Set
	o   *Owner
	in  func(p int) bool
}

// HeldIn begins to go over what o holds in the partitions for which in says yes. o makes
// no other request until that has ended; that others take something away does not
// matter, but that something may be told twice then.
func (t *Set) HeldIn(o *Owner, in func(p int) bool) *HeldIn { panic("not yet") }

// Next fills p with the next piece, and tells whether there may be more.
func (h *HeldIn) Next(p *Piece) (more bool) { panic("not yet") }
