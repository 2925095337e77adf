package conn

import "testing"

// The buffer is large while a client sends much at a time, and small again when it
// does no more, but not for a moment's sake.
func TestInputFits(t *testing.T) {
	var in input
	expect := func(what string, size int) {
		t.Helper()
		if got := len(in.buffer()); got != size {
			t.Fatalf("%s: %d bytes, not %d", what, got, size)
		}
	}
	expect("at first", smallInput)
	in.fit(smallInput - 1)
	expect("while it is not full", smallInput)
	in.fit(smallInput)
	expect("when it was full", largeInput)
	for range enoughSmall - 1 {
		in.fit(10)
	}
	expect("after a few short reads", largeInput)
	in.fit(smallInput + 1)
	for range enoughSmall - 1 {
		in.fit(0)
	}
	expect("when a long one came between", largeInput)
	in.fit(0)
	expect("after many short reads", smallInput)
	in.fit(smallInput)
	in.release()
	expect("when it was given back", smallInput)
	in.release()
}
