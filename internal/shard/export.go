package shard

// A Record is something that a partition has, told to who takes it over: a hold (Held),
// a place in line (Waits), or a rate (Open), whose Kind is Rates.
type Record struct {
	State State
	Kind  Kind
	Owner uint32 // ID; 0 of a rate
	// Untold: a hold that was granted to one who waited, and had not heard of it when the
	// record was made. Either it has since, and claims it, or it waits elsewhere.
	Untold   bool
	Token    uint64 // of an exclusive hold
	Age      uint64 // milliseconds, of a hold and a wait
	Left     uint64 // milliseconds for which the wait goes on
	Limit    uint32 // of a wait for a shared lock; of a rate
	Window   uint64 // nanoseconds, of a rate
	Owed     uint64 // nanoseconds until all units are open
	Part     uint32 // and a part of one more, in 1/Limit
	from, to uint32
}

// Records is a piece of a copy. Its zero value is ready to use, and it may be used again
// and again.
type Records struct {
	All   []Record
	names []byte
}

// Name returns a record's name, which is good until the piece is filled again.
func (r *Records) Name(i Record) []byte { return r.names[i.from:i.to] }

// An Export copies what frozen partitions have, in pieces. Whatever is released between
// two pieces may or may not be among them, all else is, once; who waits for a lock comes
// in the order of the queue. It is used by one goroutine.
type Export struct {
	// Now is what times are counted to, in nanoseconds on the clock of Take.
	Now uint64

	set *Set
}

// Export begins a copy of partitions.
func (t *Set) Export(ps []int) *Export { panic("not yet") }

// Next fills r with the next piece, and tells whether there may be more. A piece may be
// empty and not the last one.
func (e *Export) Next(r *Records) (more bool) { panic("not yet") }

// BeginImport freezes an absent partition, so that it can be imported, and tells whether
// it was absent. Tokens granted there later are above highest. Serve ends that, or Drop.
func (t *Set) BeginImport(p int, highest uint64) bool { panic("not yet") }

// Import puts into a frozen partition what a record says: a hold or a place in line for
// o, which waits then, or a rate that counts for o's share; o may be nil for that. now is
// in nanoseconds on the clock of Take. No bound refuses it. The outcome is Acquired; or
// Refused, if that is there already, o waits already, or the record makes no sense; or
// Elsewhere, if the partition is not frozen.
func (t *Set) Import(o *Owner, r Record, name []byte, now uint64) Outcome { panic("not yet") }
