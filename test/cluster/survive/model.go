//go:build linux

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// The histories are those of successes: who was refused, or has heard nothing, may have
// been so for a holder that is not there any more, as far as anybody could tell.

// mostHolders bounds the limits.
const mostHolders = 4

// A state is that of one lock: its holders and the last token. Who was told that it has
// lost a lock, and finds that it has it, has the token that it had.
type state struct {
	holders [mostHolders]int // sorted, 0 where there is none
	token   uint64
	last    int // who got that
}

func (s state) has(owner int) bool { return slices.Contains(s.holders[:], owner) }

func (s state) with(owner int) state {
	s.holders[0] = owner // the smallest is 0 if there is room
	slices.Sort(s.holders[:])
	return s
}

func (s state) without(owner int) state {
	if i := slices.Index(s.holders[:], owner); i >= 0 {
		s.holders[i] = 0
		slices.Sort(s.holders[:])
	}
	return s
}

func (s state) count() (n int) {
	for _, h := range s.holders {
		if h != 0 {
			n++
		}
	}
	return n
}

// A step is a grant, or the end of a hold: a release, or a loss that its holder knows.
// A loss happens at any time from the holder's deadline on, or never.
type step struct {
	grant bool
	owner int
	token uint64
	limit int
}

var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(now, in, _ any) (bool, any) {
		s, r := now.(state), in.(step)
		if !r.grant {
			return true, s.without(r.owner)
		}
		if s.has(r.owner) || s.count() >= r.limit {
			return false, s
		}
		if r.token != 0 && r.token <= s.token && !(r.token == s.token && r.owner == s.last) {
			return false, s
		}
		if r.token != 0 {
			s.token, s.last = r.token, r.owner
		}
		return true, s.with(r.owner)
	},
	DescribeOperation: func(in, _ any) string { return fmt.Sprintf("%+v", in) },
}

// checking is how long porcupine may take for a lock's history; it takes milliseconds.
const checking = 60 * time.Second

// linearizable has porcupine judge what happened to a lock.
func linearizable(name string, holds []hold) error {
	var ops []porcupine.Operation
	for _, h := range holds {
		grant := step{grant: true, owner: h.Owner, token: h.Token, limit: h.Limit}
		ops = append(ops, porcupine.Operation{ClientId: h.Owner, Input: grant, Call: int64(h.Asked), Return: int64(h.From)})
		left := int64(math.MaxInt64)
		if h.Left != 0 {
			left = int64(h.Left)
		}
		ops = append(ops, porcupine.Operation{ClientId: h.Owner, Input: step{owner: h.Owner}, Call: int64(max(h.To, h.From)), Return: left})
	}
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	if r := porcupine.CheckOperationsTimeout(model, ops, checking); r != porcupine.Ok {
		return fmt.Errorf("porcupine: the history of %s, %d steps: %v", name, len(ops), r)
	}
	return nil
}
