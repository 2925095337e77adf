package client

import (
	"context"
	"fmt"
	"sync/atomic"
)

// A session is one owner of locks on a mux, with one call at a time. It belongs
// to a call or to a lock, or is free for the next.
type session struct {
	number uint32
	state  atomic.Uint32

	// The request under way. Set by the caller before the state is calling,
	// and then for the goroutine that reads, too.
	verb *verb
	name string // folded
	most int64  // the largest number that the answer may have

	lines *lines // what comes before the answer; nil: nothing does

	// asides are the replies that come before the answer and that nobody waits
	// for: of registering the session's note, and of taking that back. Those who
	// ask add to it, and the goroutine that reads takes away.
	asides atomic.Int32

	// The answer. For the caller once done has a value, for which it has room.
	n    int64
	err  error
	done chan struct{}

	// What becomes of an abandoned call. Guarded by the mux's mutex.
	stage   stage
	granted bool // there is something to release

	note   string // what it has registered; guarded by the mux's mutex
	unsure bool   // whether the server knows that; the same

	// Of a mux whose server keeps what it holds, or loses locks one by one.
	lock    *Lock     // what it holds; guarded by the mux's mutex
	numbers arguments // what is asked, to be asked again; the same
	claim   *Lock     // whose claim is the next reply; the goroutine's that reads
}

// interrupted returns the error of a call that its context has ended.
func (s *session) interrupted(ctx context.Context) error {
	return fmt.Errorf("lockd: %s %q: %w", s.verb, s.name, ctx.Err())
}

// The states of a session. Whoever leaves calling first decides who gets the
// answer: the caller that waits for it, or nobody.
const (
	quiet    uint32 = iota // nothing was asked
	calling                // a caller waits
	resolved               // the caller has the answer, or is about to
	forsaken               // the caller has gone; the mux settles the rest
)

// A stage is which reply a forsaken session gets next.
type stage uint8

const (
	toCall    stage = iota // to what the caller asked
	toCancel               // to the cancel behind it
	toRelease              // to the release of what nobody wanted any more
)
