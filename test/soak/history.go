//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is what some clients saw of one exclusive lock. Whether it could have
// happened one request after another is a question for porcupine; test/linear asks
// it of everything, and this of a sample, under a load of all kinds.
type history struct {
	mu    sync.Mutex // guards ops
	ops   []porcupine.Operation
	begun time.Time
}

// step is what a client asks: "g", "r" or "i".
type step struct {
	verb   string
	client int
}

// oneLock is the whole specification. The state is who holds it, 0 being nobody.
var oneLock = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		holder, s, ok := state.(int), input.(step), output.(bool)
		switch s.verb {
		case "i":
			return ok == (holder != 0), holder
		case "g":
			if holder == 0 || holder == s.client {
				return ok, s.client
			}
			return !ok, holder
		default:
			if holder == s.client {
				return ok, 0
			}
			return !ok, holder
		}
	},
}

const (
	historians   = 5
	historySteps = 60
)

// recordHistory has some clients ask for one lock at the same time, and returns an
// error if what they saw is impossible.
func recordHistory(ctx context.Context, at addresses, seed uint64, t *tally) error {
	h := &history{begun: time.Now()}
	name := fmt.Sprint(prefix, "history ", seed)
	errs := make(chan error, historians)
	for id := 1; id <= historians; id++ {
		go func() { errs <- h.write(at, name, id, rand.New(rand.NewPCG(seed, uint64(id)))) }()
	}
	var failed error
	for range historians {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	if failed != nil {
		return failed
	}
	if porcupine.CheckOperationsTimeout(oneLock, h.ops, patience) == porcupine.Illegal {
		return breach{fmt.Errorf("what %d clients saw of one lock is impossible: %v", historians, h.ops)}
	}
	t.add("historian", "histories")
	return nil
}

func (h *history) write(at addresses, name string, id int, rnd *rand.Rand) error {
	l, err := connect(at, at.anybody(rnd, "lock", "admin"), rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	defer l.Close()
	for i := range historySteps {
		s := step{[]string{"g", "g", "r", "r", "i"}[rnd.IntN(5)], id}
		if i == historySteps-1 {
			s.verb = "r" // or its end would be one that is not in the history
		}
		call := time.Since(h.begun)
		n, _, err := l.ask(1, s.verb+" "+name)
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.ops = append(h.ops, porcupine.Operation{ClientId: id, Input: s, Output: n > 0, Call: int64(call), Return: int64(time.Since(h.begun))})
		h.mu.Unlock()
	}
	return nil
}
