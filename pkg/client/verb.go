package client

import (
	"errors"
	"math"

	"github.com/nylen/lockd/internal/wire"
)

// A verb is a kind of request, and what the server may say to it.
type verb struct {
	word string

	// What the answer is: a line, NUMBER TEXT. A text that ends in a blank is
	// followed by the name that was asked for. Lists have lines before it, or
	// no answer at all and need an end mark.
	yes  string // the text after any number but 0; empty: whatever it is
	no   string // the text after 0; empty: none but refusals
	fail error  // what no means; nil: 0 is a number like any other
	most int64  // the largest number; 0: the request's limit

	effect effect // what yes does to the locks held
	space  space  // which locks those are
	undo   *verb  // releases what yes acquired
	waits  bool   // the reply may be a long time coming, and cancel hurries it
	once   bool   // not to be asked again when the reply was lost
	named  bool   // it is about what has the name, and so for who serves that

	deed    string // what it does, for errors; empty: its word
	missing error  // the server does not know the verb
}

func (v *verb) String() string {
	if v.deed != "" {
		return v.deed
	}
	return v.word
}

type effect uint8

const (
	none effect = iota
	acquires
	releases
)

// A space is a name space of locks: the exclusive "a" and the shared "a" know
// nothing of each other.
type space uint8

const (
	exclusive space = iota
	shared
	spaces
)

const (
	maxToken = wire.MaxToken
	maxCount = min(wire.MaxLimit, math.MaxInt) // of holders: an int is narrower on some systems
)

var (
	get     = &verb{word: wire.Get, most: maxToken, yes: wire.GetSuccess, no: wire.GetFailure, fail: ErrNotAcquired, deed: "acquire", effect: acquires, space: exclusive, undo: release, named: true}
	release = &verb{word: wire.Release, most: 1, yes: wire.ReleaseSuccess, no: wire.ReleaseFailure, fail: ErrNotHeld, deed: "release", effect: releases, space: exclusive}
	inspect = &verb{word: wire.Inspect, deed: "inspect", most: 1, yes: wire.IsLocked, no: wire.NotLocked, named: true}

	// inspectNamed inspects a lock of the caller's, inspect one whose name nobody knows:
	// that the server allows the first does not mean that it allows any.
	inspectNamed = &verb{word: wire.Inspect, deed: "inspect", most: 1, yes: wire.IsLocked, no: wire.NotLocked}

	getShared     = &verb{word: wire.GetShared, most: maxCount, yes: wire.SharedGetSuccess, deed: "acquire", effect: acquires, space: shared, undo: releaseShared, named: true}
	releaseShared = &verb{word: wire.ReleaseShared, most: 1, yes: wire.SharedReleaseSuccess, no: wire.SharedReleaseFailure, fail: ErrNotHeld, deed: "release", effect: releases, space: shared}
	inspectShared = &verb{word: wire.InspectShared, deed: "inspect", most: maxCount, yes: wire.SharedIsLocked, no: wire.SharedNotLocked, named: true}

	dump       = &verb{word: wire.Dump}
	dumpShared = &verb{word: wire.DumpShared}

	me    = &verb{word: wire.Me, most: 1}
	iam   = &verb{word: wire.IAm, most: 1, yes: okText}
	who   = &verb{word: wire.Who}
	stats = &verb{word: wire.Query}
)

// Those that list, end clients and drop rates. Their lines come before the last one of the
// reply, which is the one that is described here.
var (
	look     = &verb{word: wire.Look, deed: "look", most: 1, yes: endText, missing: ErrNoLook, named: true}
	lookAll  = &verb{word: wire.LookAll, deed: "look", most: 1, yes: endText, missing: ErrNoLook}
	top      = &verb{word: wire.Top, most: 1, yes: endText, missing: ErrNoOverview}
	clients  = &verb{word: wire.Clients, most: 1, yes: endText, missing: ErrNoOverview}
	figures  = &verb{word: wire.Stats, most: 1, yes: endText, missing: ErrNoOverview}
	readMap  = &verb{word: wire.Map, most: maxToken, yes: wire.EndOf, missing: ErrUnsupported}
	losses   = &verb{word: wire.Losses, most: 1, yes: endText, missing: ErrNoLosses}
	dropRate = &verb{word: wire.DropRate, deed: "drop", most: 1, yes: wire.RateDropped, no: wire.NoSuchRate, fail: ErrNoSuchRate, missing: ErrNoDropRate, once: true, named: true}
	kick     = &verb{word: wire.Kick, most: 1, yes: wire.Kicked, no: wire.NoSuchClient, fail: ErrNoSuchClient, missing: ErrNoKick, once: true}
)

// Those of protocol 2, which only a mux speaks.
var (
	getWait        = &verb{word: wire.GetWait, most: maxToken, yes: wire.GetSuccess, no: wire.GetTimeout, fail: errWaitedOut, deed: "acquire", effect: acquires, undo: release, waits: true, named: true}
	getSharedWait  = &verb{word: wire.GetSharedWait, most: maxCount, yes: wire.SharedGetSuccess, no: wire.SharedGetTimeout, fail: errWaitedOut, deed: "acquire", effect: acquires, space: shared, undo: releaseShared, waits: true, named: true}
	getSharedLimit = &verb{word: wire.GetSharedLimit, most: maxCount, yes: wire.SharedGetSuccess, no: wire.SharedLimitReached, fail: ErrNotAcquired, deed: "acquire", effect: acquires, space: shared, undo: releaseShared, named: true}

	takeRate    = &verb{word: wire.TakeRate, deed: "rate", yes: wire.RateAllowed, no: wire.RateAllowed, named: true}
	inspectRate = &verb{word: wire.InspectRate, deed: "rate", yes: wire.RateOpen, no: wire.RateOpen, named: true}

	ping    = &verb{word: wire.Ping, most: 1, yes: pongText}
	hello   = &verb{word: wire.Hello}
	ask     = &verb{word: wire.Limits}
	claim   = &verb{word: wire.Claim, most: maxToken, yes: wire.ClaimSuccess, no: wire.ClaimFailure, fail: ErrRevoked}
	claims  = &verb{word: wire.Claims, most: maxCount, yes: wire.SharedClaimSuccess, no: wire.SharedClaimFailure, fail: ErrRevoked}
	claimed = &verb{word: wire.Claimed, most: 1, yes: okText}

	cancel = &verb{word: wire.Cancel, most: 1, yes: okText}
	bye    = &verb{word: wire.Quit, most: 1, yes: byeText}
)

// errWaitedOut is a wait's end on the server. No caller sees it.
var errWaitedOut = errors.New("waited in vain")
