package client

import "sync/atomic"

// A call is a request on its way. It is the caller's until it is sent, then for
// the goroutine that reads until it is answered, and the caller's again; a
// caller that gives it up in between leaves it for good.
type call struct {
	verb *verb
	name string // folded
	mark string // the end mark's lock; empty: the reply is one line

	// done gets one value when the reply is here and what follows may be read.
	// It has room for it, so that nobody waits for the caller.
	done  chan struct{}
	state atomic.Uint32

	n     int64  // the reply's number
	text  string // of a verb without text, what follows the number
	lines *lines // what is in front of the end mark
	err   error
}

// The states of a call. Whoever leaves pending first decides who the reply
// belongs to: the caller that waits for it, or nobody.
const (
	pending uint32 = iota
	answered
	abandoned
)

func (c *call) answer() bool  { return c.state.CompareAndSwap(pending, answered) }
func (c *call) abandon() bool { return c.state.CompareAndSwap(pending, abandoned) }

// newCall makes a call, or takes a used one. Each client has its own: a test
// that runs in a testing/synctest bubble must not leave its channels to others.
func (c *Client) newCall(v *verb, name string) *call {
	used, ok := c.used.Get().(*call)
	if !ok {
		used = &call{done: make(chan struct{}, 1)}
	}
	used.verb, used.name = v, name
	return used
}

// newUnwatched makes a call that nobody waits for.
func (c *Client) newUnwatched(v *verb, name string) *call {
	call := c.newCall(v, name)
	call.abandon()
	return call
}

// recycle takes back a call that nobody else can see: one that was not sent, or
// that was answered.
func (c *Client) recycle(used *call) {
	*used = call{done: used.done}
	c.used.Put(used)
}
