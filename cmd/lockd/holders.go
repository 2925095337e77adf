package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// What a server tells of who holds a lock and who waits for it, as inspect and
// dump print it.

// lockDocument is all of one name. Its keys are always there.
type lockDocument struct {
	Name      string         `json:"name"`
	RawName   string         `json:"name_base64,omitempty"`
	Held      bool           `json:"held"`
	Exclusive exclusiveState `json:"exclusive"`
	Shared    sharedState    `json:"shared"`
	Rate      *rateState     `json:"rate"`
}

type exclusiveState struct {
	Held    bool     `json:"held"`
	Holders []holder `json:"holders"`
	Waiting []waiter `json:"waiting"`
}

type sharedState struct {
	Held    bool     `json:"held"`
	Count   int      `json:"count"`
	Holders []holder `json:"holders"`
	Waiting []waiter `json:"waiting"`
}

type rateState struct {
	Limited bool  `json:"limited"`
	Open    int   `json:"open"`
	FullIn  int64 `json:"all_open_in_ms"`
}

type someone struct {
	Addr    string           `json:"addr"`
	Name    string           `json:"name"`
	RawName string           `json:"name_base64,omitempty"`
	Since   int64            `json:"since_ms"`
	Process *processDocument `json:"process"`
}

type holder struct {
	State client.State `json:"state"`
	Token uint64       `json:"token"`
	someone
}

type waiter struct {
	Place int `json:"place"`
	Limit int `json:"limit"`
	someone
}

type processDocument struct {
	PID     int    `json:"pid"`
	UID     int    `json:"uid"`
	Program string `json:"program"`
}

// documentOf makes one of the entries of a name, in the order of the turns.
func documentOf(name string, entries []client.Entry) lockDocument {
	d := lockDocument{
		Name: name, RawName: raw(name),
		Exclusive: exclusiveState{Holders: []holder{}, Waiting: []waiter{}},
		Shared:    sharedState{Holders: []holder{}, Waiting: []waiter{}},
	}
	for _, e := range entries {
		who := someone{Addr: e.Addr, Name: e.Registered, RawName: raw(e.Registered), Since: e.Since.Milliseconds()}
		if p, ok := e.Process(); ok {
			who.Process = &processDocument{p.PID, p.UID, p.Program}
		}
		waits := e.State == client.StateWaits
		switch {
		case e.Kind == client.KindExclusive && waits:
			d.Exclusive.Waiting = append(d.Exclusive.Waiting, waiter{len(d.Exclusive.Waiting) + 1, 0, who})
		case e.Kind == client.KindExclusive:
			d.Exclusive.Holders = append(d.Exclusive.Holders, holder{e.State, e.Token, who})
		case e.Kind == client.KindShared && waits:
			d.Shared.Waiting = append(d.Shared.Waiting, waiter{len(d.Shared.Waiting) + 1, e.Count, who})
		case e.Kind == client.KindShared:
			d.Shared.Holders = append(d.Shared.Holders, holder{e.State, 0, who})
		case e.Kind == client.KindRate:
			d.Rate = &rateState{e.State == client.StateLimited, e.Count, e.Since.Milliseconds()}
		}
	}
	d.Exclusive.Held = len(d.Exclusive.Holders) > 0
	d.Shared.Count = len(d.Shared.Holders)
	d.Shared.Held = d.Shared.Count > 0
	d.Held = d.Exclusive.Held || d.Shared.Held
	return d
}

// places goes over entries, with the place of each of those that wait in the
// line of its lock: 1 is the next one. It is 0 for all others.
func places(entries []client.Entry) iter.Seq2[int, client.Entry] {
	return func(yield func(int, client.Entry) bool) {
		last, place := client.Entry{}, 0
		for _, e := range entries {
			if e.Name != last.Name || e.Kind != last.Kind {
				place = 0
			}
			last = e
			at := 0
			if e.State == client.StateWaits {
				place++
				at = place
			}
			if !yield(at, e) {
				return
			}
		}
	}
}

// stateOf spells what an entry says of its lock.
func stateOf(e client.Entry, place int) string {
	switch {
	case e.State != client.StateWaits:
		return plain(string(e.State))
	case e.Kind == client.KindShared && e.Count > 0:
		return fmt.Sprintf("waits %d, limit %d", place, e.Count)
	}
	return fmt.Sprintf("waits %d", place)
}

// numberOf spells the fencing token, how many hold a shared lock, or how much of
// a rate is open.
func numberOf(e client.Entry) string {
	switch {
	case e.Kind == client.KindExclusive && e.Token > 0:
		return strconv.FormatUint(e.Token, 10)
	case e.State == client.StateWaits, e.Kind == client.KindExclusive, e.Count == 0 && e.Kind == client.KindShared:
		return unknown
	}
	return strconv.Itoa(e.Count)
}

// unknown stands in a table where there is nothing.
const unknown = "-"

// sinceOf spells for how long, or of a rate in how long.
func sinceOf(e client.Entry) string {
	switch {
	case e.Kind == client.KindRate:
		return "in " + ago(e.Since+time.Second-1)
	case e.Addr == "": // by a server that tells no more than who
		return unknown
	}
	return ago(e.Since)
}

// notTold says why a server does not tell who holds a lock, if that is all
// there is to an error.
func notTold(err error) (why string) {
	switch {
	case errors.Is(err, client.ErrNoLook):
		return "the server is too old to tell who holds it and who waits"
	case errors.Is(err, client.ErrDisabled):
		return "who holds it and who waits is not told: the server was started with --disable-dump"
	case errors.Is(err, client.ErrNotAllowed):
		return "who holds it and who waits is not told to this client"
	}
	return ""
}

// heldBy returns the holds of names that an older server tells: by whom, and
// nothing else. A nil name means all.
func heldBy(ctx context.Context, cl *client.Client, name *string) (entries []client.Entry, err error) {
	add := func(kind client.Kind, name string, holders ...string) {
		for _, h := range holders {
			e := client.Entry{Name: name, Kind: kind, State: client.StateHeld, Registered: h}
			if kind == client.KindShared {
				e.Count = len(holders)
			}
			entries = append(entries, e)
		}
	}
	if name != nil {
		holder, held, err := cl.Dump(ctx, *name)
		if err != nil {
			return nil, err
		}
		if held {
			add(client.KindExclusive, *name, holder)
		}
		holders, err := cl.DumpShared(ctx, *name)
		add(client.KindShared, *name, holders...)
		return entries, err
	}
	exclusive, err := cl.DumpAll(ctx)
	if err != nil {
		return nil, err
	}
	for name, holder := range exclusive {
		add(client.KindExclusive, name, holder)
	}
	shared, err := cl.DumpAllShared(ctx)
	for name, holders := range shared {
		add(client.KindShared, name, holders...)
	}
	return entries, err
}
