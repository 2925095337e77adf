package server

import (
	"math"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/size"
)

// The bound on memory is meant for the process: what one sees from outside, and
// what a container is killed for. Clients' part of it is less, since the garbage
// collector needs room to work in, and buffers that are filled already may pass
// their part by a quarter before somebody is cut off.
const (
	memoryPart  = 0.75 // of the machine's memory, if nothing is said
	clientsPart = 0.5  // of the process's
	// processBytes is what the process takes without clients.
	processBytes = 20 << 20
	// LeastMemory is the least that Options.MaxMemory may be.
	LeastMemory = 32 << 20
)

// Unbounded, as MaxMemory, is no bound.
const Unbounded = -1

// completeMemory finds out the bound on memory.
func (o *Options) completeMemory() error {
	switch {
	case o.MaxMemory == 0:
		machine := machineMemory()
		if math.MaxInt == math.MaxInt32 { // a process has no more addresses
			machine = min(machine, 2<<30)
		}
		if machine > 0 {
			o.MaxMemory = max(LeastMemory, int64(float64(machine)*memoryPart))
		} else {
			o.MaxMemory = Unbounded
		}
	case o.MaxMemory == Unbounded:
	case o.MaxMemory < LeastMemory:
		return optionError("max-memory", "must be at least %s, not %s", size.Format(LeastMemory), size.Format(o.MaxMemory))
	case o.MaxMemory > math.MaxInt64/2:
		return optionError("max-memory", "is too much")
	}
	return nil
}

// clientsMemory is what clients may have of it; 0: as much as they like.
func (o *Options) clientsMemory() int64 {
	if o.MaxMemory == Unbounded {
		return 0
	}
	return int64(float64(o.MaxMemory-processBytes) * clientsPart)
}

// MaxMemory returns what the bound on memory is, in bytes, or Unbounded: what
// Options.MaxMemory says, or its default on this machine.
func (s *Server) MaxMemory() int64 { return s.opts.MaxMemory }

// shareBys are what there is to share by.
var shareBys = map[string]session.ShareBy{
	"address":    session.ShareByAddress,
	"token":      session.ShareByToken,
	"connection": session.ShareByConnection,
}
