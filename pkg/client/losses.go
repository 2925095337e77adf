package client

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Loss is something that a client wanted and has not got, or had and has not any
// more, without having released it: a lock, a wait, or a request that was refused at a
// bound. Losses returns them.
type Loss struct {
	// Name is the lock's, or the rate's. It is empty where More says how many.
	Name string
	Kind Kind
	What What
	Why  Why

	// Seq is larger with each loss of a server.
	Seq uint64

	// Ago is how long ago it was, and Lasted for how long the lock was held, or
	// waited for.
	Ago, Lasted time.Duration

	// Token is the fencing token of an exclusive lock that was held, and Count how
	// many held a shared one, whoever lost it included.
	Token uint64
	Count int

	// Addr is the address of the client that lost it, Registered the name under which
	// it had registered, and Identity whose token or certificate it had shown; the
	// latter are empty if there is none. Names of clients may be cut, and end in "...".
	Addr, Registered, Identity string

	// Times is how often the client was refused at the bound within a second.
	Times int

	// More, if it is not 0, is how many further locks of the kind the client has lost
	// that are not listed one by one.
	More int

	// Bound is at which bound it was refused, such as "too_many_locks".
	Bound string

	// By is who has kicked the client.
	By string

	// Holder is who held the lock when the wait was over, for longest if there were
	// more.
	Holder string

	// Waiting is how many waited for the lock that was held, and Waiters
	// are the first of them.
	Waiting int
	Waiters []string

	// Process is which process the client was, if it came over a unix socket and the
	// system told; else it is nil.
	Process *Process

	// Rest are further fields, as the server sent them.
	Rest []string
}

// What was lost. A newer server may know others.
type What string

const (
	LostHeld    What = "held"
	LostWaited  What = "waited"
	LostRefused What = "refused"
)

// Why says why something was lost; docs/protocol.md says when. A newer server may know
// others.
type Why string

const (
	WhyDisconnect  Why = "disconnect"
	WhyDeadPeer    Why = "dead_peer"
	WhyKick        Why = "kick"
	WhyShutdown    Why = "shutdown"
	WhyCutOff      Why = "cut_off"
	WhyWaitTimeout Why = "wait_timeout"
	WhyWaitGivenUp Why = "wait_given_up"
	WhyRefused     Why = "refused"
	WhyKeepExpired Why = "keep_expired"
)

// maxLosses is how many one may ask for.
const maxLosses = 100_000

// Losses returns the latest losses that the server remembers, up to n of them, the
// latest first: of the locks and rates with that name, or of all if it is empty. n is
// 1 to 100,000, or 0, which means all. A client that may know of some names only is
// told of those.
//
// It returns ErrNoLosses if the server is too old, ErrNotAllowed if it does not tell
// this client, and ErrDisabled if it tells nobody.
func (c *Client) Losses(ctx context.Context, n int, name string) ([]Loss, error) {
	n, err := lossesOf(n)
	if err != nil {
		return nil, err
	}
	var all []Loss
	err = c.tabbed(ctx, losses, strconv.Itoa(n)+" "+name, func(line string) error {
		l, err := parseLoss(line)
		all = append(all, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Losses returns the latest losses that the server remembers, up to n of them, the
// latest first: of the locks and rates with that name, or of all if it is empty. n is
// 1 to 100,000, or 0, which means all. A client that may know of some names only is
// told of those.
//
// It waits for a connection, and asks again over the next one, as Acquire does. It
// returns ErrNoLosses if the server is too old, ErrNotAllowed if it does not tell
// this client, and ErrDisabled if it tells nobody.
func (l *Locker) Losses(ctx context.Context, n int, name string) ([]Loss, error) {
	n, err := lossesOf(n)
	if err != nil {
		return nil, err
	}
	var all []Loss
	err = l.tabbed(ctx, losses, arguments{n: [3]uint64{uint64(n)}, count: 1}, name, func(line string) error {
		l, err := parseLoss(line)
		all = append(all, l)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

func lossesOf(n int) (int, error) {
	switch {
	case n == 0:
		return maxLosses, nil
	case n < 0 || n > maxLosses:
		return 0, ErrBadArgument
	}
	return n, nil
}

// parseLoss reads a line. The error is a ReplyError if it cannot.
func parseLoss(line string) (Loss, error) {
	f := &fields{all: strings.Split(line, "\t")}
	count := func() int { return int(min(f.unsigned(), math.MaxInt32)) }
	ms := func() time.Duration {
		return time.Duration(min(f.unsigned(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
	}
	l := Loss{Name: f.text(), Seq: f.unsigned(), Kind: Kind(f.text()), What: What(f.text()), Why: Why(f.text()), Ago: ms(), Lasted: ms()}
	if held := f.unsigned(); l.Kind == KindExclusive {
		l.Token = held
	} else {
		l.Count = int(min(held, math.MaxInt32))
	}
	l.Addr, l.Registered, l.Identity = f.optional(), f.optional(), f.optional()
	l.Times, l.More = count(), count()
	l.Bound, l.By, l.Holder = f.optional(), f.optional(), f.optional()
	l.Waiting = count()
	l.Waiters = parseListed(f.text())
	if p, ok := parseProcess(f.text()); ok {
		l.Process = &p
	}
	l.Rest = f.rest()
	if f.wrong {
		return Loss{}, &ReplyError{Reply: line}
	}
	return l, nil
}

// parseListed reads names with commas between, some of them quoted; - is none.
func parseListed(text string) (all []string) {
	if text == "-" {
		return nil
	}
	for more := true; more; {
		var one string
		if quoted, err := strconv.QuotedPrefix(text); err == nil {
			one, _ = strconv.Unquote(quoted)
			_, text, more = strings.Cut(text[len(quoted):], ",")
		} else {
			one, text, more = strings.Cut(text, ",")
		}
		all = append(all, one)
	}
	return all
}
