package main

import (
	"strconv"

	"github.com/nylen/lockd/pkg/client"
)

// What stands in the columns of lockd top.

// A topColumn is one of a list's.
type topColumn struct {
	title string
	width int
	right bool // numbers
	from  int  // the width of a terminal from which on there is room for it
	share int  // of what is left, among those that can have more
}

var (
	lockColumns = []topColumn{
		{title: "NAME", width: 12, share: 3}, {title: "KIND", width: 6, from: 60}, {title: "HELD", width: 6, right: true}, {title: "QUEUE", width: 6, right: true},
		{title: "WAIT", width: 6, right: true, from: 52}, {title: "REQ/S", width: 6, right: true, from: 70}, {title: "HOLDER", width: 10, from: 60, share: 2},
		{title: "ADDRESS", width: 21, from: 120}, {title: "TOKEN/COUNT", width: 16, from: 150, right: true},
	}
	clientColumns = []topColumn{
		{title: "ADDRESS", width: 15, share: 1}, {title: "NAME", width: 10, from: 60, share: 2}, {title: "IDENTITY", width: 12, from: 100}, {title: "OVER", width: 5, from: 70},
		{title: "AGE", width: 6, right: true, from: 50}, {title: "OWNERS", width: 6, right: true, from: 90}, {title: "LOCKS", width: 6, right: true},
		{title: "WAITS", width: 6, right: true}, {title: "BYTES", width: 6, right: true, from: 60},
	}
	lossColumns = []topColumn{
		{title: "AGO", width: 6, right: true}, {title: "NAME", width: 10, share: 3}, {title: "KIND", width: 9, from: 100}, {title: "LOST", width: 12, from: 60}, {title: "WHY", width: 14, share: 1},
		{title: "QUEUE", width: 6, right: true, from: 90}, {title: "CLIENT", width: 10, from: 60, share: 2},
		{title: "ADDRESS", width: 21, from: 120}, {title: "TOKEN", width: 16, from: 150, right: true},
	}
	entryColumns = []topColumn{
		{title: "STATE", width: 10}, {title: "KIND", width: 6, from: 60}, {title: "SINCE", width: 6, right: true}, {title: "WHO", width: 10, share: 3},
		{title: "ADDRESS", width: 21, from: 70, share: 1}, {title: "TOKEN/COUNT", width: 16, from: 100, right: true},
	}
)

// fitted are the widths of columns on so wide a terminal; 0 is not shown.
func fitted(columns []topColumn, width int) []int {
	widths := make([]int, len(columns))
	left, shares := width, 0
	for i, c := range columns {
		if width >= c.from {
			widths[i] = c.width
			left -= c.width + 1
			shares += c.share
		}
	}
	left++ // no gap behind the last one
	for i, c := range columns {
		if widths[i] > 0 && c.share > 0 && left > 0 {
			more := left * c.share / shares
			widths[i] += more
			left, shares = left-more, shares-c.share
		}
	}
	return widths
}

func kindCell(k client.Kind) string {
	if k == client.KindExclusive {
		return "excl"
	}
	return legible(string(k))
}

func heldCell(l client.TopLock) string {
	if l.Holders == 0 {
		return unknown
	}
	return lasting(l.Held)
}

func waitCell(l client.TopLock) string {
	if l.Queue == 0 {
		return unknown
	}
	return lasting(l.OldestWait)
}

// busyCell has a dash for what is asked for so rarely that a server does not know.
func busyCell(busy float64) string {
	if busy == 0 {
		return unknown
	}
	return perSecond(busy)
}

// tokenCell is an exclusive lock's fencing token, or how many hold a shared one.
func tokenCell(l client.TopLock) string {
	switch {
	case l.Token > 0:
		return strconv.FormatUint(l.Token, 10)
	case l.Holders > 0:
		return strconv.Itoa(l.Holders)
	}
	return unknown
}

func numberCell(n int64) string {
	if n == 0 {
		return unknown
	}
	return short(float64(n))
}

// holderCell is who holds a lock, and how many more.
func holderCell(addr, name string, holders int) string {
	if name == "" {
		name = addr
	}
	if name == "" {
		return unknown
	}
	text := legible(name)
	if holders > 1 {
		text += " +" + short(float64(holders-1))
	}
	return text
}

func entryWho(e client.Entry) string {
	if who := whoIs(e); who != "" {
		return fewMarks(who) // which is plain already
	}
	return nameOrNone(e.Addr)
}

func lossName(l client.Loss) string {
	if l.More > 0 {
		return "(" + short(float64(l.More)) + " more)"
	}
	return legible(l.Name)
}

// lossWhy says why something was lost, in the words of lockd losses, or at which bound.
func lossWhy(l client.Loss) string {
	if l.Bound != "" {
		return legible(l.Bound)
	}
	return legible(string(l.Why))
}

// overCell is a transport, in as many letters as the flags that open one.
func overCell(transport string) string {
	if transport == "websocket" {
		return "ws"
	}
	return nameOrNone(transport)
}

func nameOrNone(name string) string {
	if name == "" {
		return unknown
	}
	return legible(name)
}

func orNone(text string) string {
	if text == "" {
		return unknown
	}
	return text
}
