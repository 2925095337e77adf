package main

import (
	"fmt"
	"strings"
)

// A stepper goes from a state to all that can come next. Each actor has a file.
type stepper struct {
	*Config
	s   *State // where it is
	t   State  // where it goes
	out func(t *State, l label, wrong string)
}

// A label says what happens in a step: {n} stands for a node, {c} for a client, {p} for a
// partition and {d} for a number.
type label struct {
	text string
	args [3]uint8
}

func (l label) String() string {
	var b strings.Builder
	text, n := l.text, 0
	for {
		before, rest, found := strings.Cut(text, "{")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		switch v := l.args[n]; rest[0] {
		case 'n':
			b.WriteByte('A' + v)
		case 'c':
			fmt.Fprintf(&b, "client %d", v)
		case 'p':
			fmt.Fprintf(&b, "partition %d", v)
		default:
			fmt.Fprint(&b, v)
		}
		n++
		text = rest[2:]
	}
}

// fork returns a copy of the state to change.
func (x *stepper) fork() *State {
	x.t = *x.s
	return &x.t
}

func (x *stepper) did(text string, args ...int) { x.broke("", text, args...) }

// broke is did with a promise that was broken by it.
func (x *stepper) broke(wrong, text string, args ...int) {
	l := label{text: text}
	for i, a := range args {
		l.args[i] = uint8(a)
	}
	if wrong == "" {
		wrong = x.judge(&x.t)
	}
	x.out(&x.t, l, wrong)
}

// judge looks for more believers than the lock's limit.
func (x *stepper) judge(t *State) string {
	var n [maxParts]int
	for k := range x.Clients {
		if t.clients[k].left > 0 {
			n[x.at(k)]++
		}
	}
	for _, n := range n {
		if n > x.Limit {
			return "P1: more believe in a lock than may hold it"
		}
	}
	return ""
}

// steps is all that can happen.
func (x *stepper) steps() {
	x.tick()
	for i := range x.Nodes {
		x.etcd(i)
		x.node(i)
		x.balance(i)
		for p := range x.Parts {
			x.move(i, p)
			x.own(i, p)
		}
		x.homeOf(i)
	}
	for k := range x.Clients {
		x.client(k)
		x.forward(k)
		x.elsewhere(k)
	}
}

// spend takes one of what may still happen.
func spend(n *uint8) {
	if *n != unlimited {
		*n--
	}
}
