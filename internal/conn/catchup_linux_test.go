//go:build linux && !noloop

package conn

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// A loop that always learns of more is not asked for ever.
func TestCatchUpIsBounded(t *testing.T) {
	h := NewServer(testConfig())
	told := 0
	l := &loop{}
	for range 2 {
		l.asked = &rounds{server: h, tell: []func(){func() { told++ }}}
		l.asked.left.Store(1)
		turns := 0
		for l.asked != nil {
			l.answer(true)
			turns++
		}
		if turns != catchUpTurns {
			t.Errorf("%d turns", turns)
		}
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
	l.asked = &rounds{server: h}
	l.asked.left.Store(1)
	if l.answer(false); l.asked != nil {
		t.Error("one that knows all goes on")
	}
}

// Everybody who asks is told, once, however many ask and whatever becomes of the
// loops meanwhile.
func TestCatchUpTellsAll(t *testing.T) {
	for _, procs := range []int{1, 4} {
		before := runtime.GOMAXPROCS(procs)
		h := NewServer(testConfig())
		if h.CatchUp(nil) {
			t.Error("there is something to learn without loops")
		}
		h.startedLoops()
		const each = 2000
		var told atomic.Int32
		var again func()
		again = func() { // also from within
			if told.Add(1) == each/2 && !h.CatchUp(again) {
				t.Error("there are no loops")
			}
		}
		asked := make(chan struct{})
		for range 2 {
			go func() {
				defer func() { asked <- struct{}{} }()
				for i := range each / 2 {
					if !h.CatchUp(again) {
						t.Error("there are no loops")
					}
					if i%100 == 0 {
						runtime.Gosched()
					}
				}
			}()
		}
		<-asked
		go h.CatchUp(again) // while they end
		drain(h)
		<-asked
		for told.Load() < each+2 {
			runtime.Gosched()
		}
		if !h.CatchUp(again) || told.Load() != each+3 {
			t.Error("loops that have ended are waited for")
		}
		runtime.GOMAXPROCS(before)
	}
}
