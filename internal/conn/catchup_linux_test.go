//go:build linux && !noloop

package conn

import (
	"bytes"
	"runtime"
	"sync/atomic"
	"syscall"
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

// still makes loops whose turns are the test's.
func still(t *testing.T, h *Server, n int) []*loop {
	t.Helper()
	for i := range n {
		l, err := newLoop(h, i)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.closed = true // or a timer would write to what has the number then
			l.file.Close()
			syscall.Close(l.wake)
		})
		h.loops.all = append(h.loops.all, l)
	}
	h.loops.running.Store(&h.loops.all)
	return h.loops.all
}

// left makes a connection whose client has sent requests, of several turns, and
// has gone.
func left(t *testing.T) (fd int) {
	t.Helper()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	write(pair[0], bytes.Repeat([]byte("?\n"), 2*turnBytes)) // a reply would fail
	syscall.Close(pair[0])
	return pair[1]
}

// The end of a connection is behind what it has sent, which takes several turns.
func TestCatchUpSeesTheEnd(t *testing.T) {
	h := NewServer(testConfig())
	l := still(t, h, 1)[0]
	l.letIn(left(t), Unix)
	told := false
	l.asked = &rounds{server: h, tell: []func(){func() {
		if n := h.Connections(); n != 0 {
			t.Errorf("%d connections", n)
		}
		told = true
	}}}
	l.asked.left.Store(1)
	for range 10 {
		l.turn()
	}
	if !told {
		t.Error("nobody was told")
	}
	// Also when its locks take several turns to release.
	l.letIn(left(t), Unix)
	l.clients[0].watch(0)
	l.ending++
	l.asked = &rounds{server: h}
	l.asked.left.Store(1)
	if l.turn(); l.asked == nil {
		t.Error("a connection that is still ending is not waited for")
	}
	l.ending--
	l.clients[0].shut()
}

// A connection that a loop gives to one that has caught up already, and that has
// ended, is seen to end.
func TestCatchUpGoesRoundTwice(t *testing.T) {
	h := NewServer(testConfig())
	all := still(t, h, 2)
	first, second := all[0], all[1]
	told := false
	h.CatchUp(func() {
		if n := h.Connections(); n != 0 {
			t.Errorf("%d connections", n)
		}
		told = true
	})
	for range 3 {
		second.turn()
	}
	first.load++ // the other one has fewer
	first.letIn(left(t), Unix)
	first.load--
	for range 10 {
		first.turn()
		second.turn()
	}
	if !told {
		t.Error("nobody was told")
	}
}
