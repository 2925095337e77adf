package session

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// A Loss is something that a client wanted and has not got, or had and has not any
// more, without having asked for that: a hold, a wait in vain, or a refusal at a
// bound. What is released, by itself or with a bye, is none.
//
// The names of clients in it may be cut, see lossNameBytes. That of the lock is not.
type Loss struct {
	Seq  uint64 // grows with each; none is 0
	At   time.Time
	What What
	Why  Why
	Kind shard.Kind // shard.Rates: what was refused is units of a rate
	Name string

	Token  uint64        // of an exclusive lock that was held
	Count  int           // of a shared lock that was held: how many held it
	Lasted time.Duration // for how long it was held, or waited for
	More   int           // so many further holds of that kind which the client lost; then it has no Name

	Address  string // of the client that lost it
	Client   string // under which that has registered; "" if it has not
	Identity string // whose token, certificate or user it has shown; "" if none

	Process string // at the other end of a unix socket, see AppendProcess; "": not known

	By      string   // of a kick: who it was that kicked
	Holder  string   // of a wait: who held the lock at its end, by name or address; "": nobody
	Waiting int      // of a hold: how many waited for the lock
	Waiters []string // the first of them, by name or address
	Bound   string   // of a refusal: which bound is reached, as the metric of rejections has it
	Times   int      // of a refusal: how many there were of the client, at the bound, within the second
}

// What is lost.
type What uint8

// What there is to lose.
const (
	LostHold What = iota
	LostWait
	Refusal
	whats
)

func (w What) String() string { return [...]string{"held", "waited", "refused"}[w] }

// MarshalText implements encoding.TextMarshaler.
func (w What) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// Why says why something was lost.
type Why uint8

// The reasons. Who waits may lose its place for any of them, who holds for those
// down to WhyKeepExpired.
const (
	WhyDisconnect  Why = iota // the client has ended its connection, or the network
	WhyDeadPeer               // it has vanished without doing so
	WhyKick                   // somebody has kicked it
	WhyShutdown               // the server shuts down
	WhyCutOff                 // the server has ended the connection: it keeps too much, or breaks the protocol
	WhyKeepExpired            // it was kept, and has not come back in time
	WhyWaitTimeout            // it has waited for as long as it wanted to
	WhyWaitGivenUp            // it has stopped waiting: by a cancel, with its connection, or since too much came behind
	WhyRefused                // at a bound, or since it is not allowed any more
	whys
)

func (w Why) String() string {
	return [...]string{"disconnect", "dead_peer", "kick", "shutdown", "cut_off", "keep_expired", "wait_timeout", "wait_given_up", "refused"}[w]
}

// MarshalText implements encoding.TextMarshaler.
func (w Why) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// bounds are the names of those at which requests are refused.
var bounds = [shard.Outcomes]string{
	shard.Full:         "too_many_locks",
	shard.OwnerFull:    "too_many_locks_of_owner",
	shard.TooManyWait:  "too_many_waiters",
	shard.ShareFull:    "share_of_locks",
	shard.ShareRates:   "share_of_rates",
	shard.ShareWaiters: "share_of_waiters",
	shard.ShareBytes:   "share_of_bytes",
	shard.MemoryFull:   "server_full",
}

// notAllowed is the bound of who was granted a lock that it may not have any more.
const boundNotAllowed = "not_allowed"
