package session

import (
	"slices"
	"sync"
)

// turns lets one sorted list at a time collect its names: that is nearly all of
// its work, over and over for many locks, and clients that ask for it at the same
// time would have all processors. Who has the turn never waits for a client.
type turns struct {
	mu    sync.Mutex // guards what follows, and the lists' places
	taken bool
	queue []*ticket
}

// A ticket is a list's place.
type ticket struct {
	place place
	wake  func() // called when the turn has come
}

type place uint8

const (
	noTurn place = iota
	queuedForTurn
	hasTurn
)

// take takes the turn, or a place in the queue, and tells whether it is t's.
func (all *turns) take(t *ticket) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	switch {
	case t.place == hasTurn:
		return true
	case !all.taken:
		all.taken, t.place = true, hasTurn
		return true
	case t.place == noTurn:
		t.place = queuedForTurn
		all.queue = append(all.queue, t)
	}
	return false
}

// queued tells whether t stands in the queue.
func (all *turns) queued(t *ticket) bool {
	all.mu.Lock()
	defer all.mu.Unlock()
	return t.place == queuedForTurn
}

// leave gives the turn, or the place in the queue, back.
func (all *turns) leave(t *ticket) {
	all.mu.Lock()
	had := t.place
	t.place = noTurn
	var next *ticket
	switch {
	case had == queuedForTurn:
		all.queue = slices.DeleteFunc(all.queue, func(other *ticket) bool { return other == t })
	case had == hasTurn && len(all.queue) > 0:
		next, all.queue = all.queue[0], all.queue[1:]
		next.place = hasTurn
	case had == hasTurn:
		all.taken, all.queue = false, nil
	}
	all.mu.Unlock()
	if next != nil {
		next.wake()
	}
}
