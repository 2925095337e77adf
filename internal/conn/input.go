package conn

import "sync"

// An input is the buffer that a link reads into. It is there while the link is idle,
// so it is small unless the client sends much at a time. Its zero value is ready to
// use.
type input struct {
	small []byte
	large *[]byte // in use, if there is one
	few   int     // reads in a row for which the small one would do
}

const (
	smallInput = 512
	largeInput = 4 << 10
	// enoughSmall is how many such reads it takes for the large one to go: replies to
	// what was read at once share a write, and what a client sends at a time goes up
	// and down.
	enoughSmall = 16
)

var largeInputs = sync.Pool{New: func() any { b := make([]byte, largeInput); return &b }}

// buffer is what to read into.
func (in *input) buffer() []byte {
	if in.large != nil {
		return *in.large
	}
	if in.small == nil {
		in.small = make([]byte, smallInput)
	}
	return in.small
}

// fit makes the buffer fit a client that has sent n bytes at once.
func (in *input) fit(n int) {
	switch {
	case in.large == nil:
		if n == smallInput {
			in.large = largeInputs.Get().(*[]byte)
		}
	case n > smallInput:
		in.few = 0
	default:
		if in.few++; in.few == enoughSmall {
			in.release()
		}
	}
}

// release gives the large buffer back.
func (in *input) release() {
	if in.large != nil {
		largeInputs.Put(in.large)
		in.large, in.few = nil, 0
	}
}
