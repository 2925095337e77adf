package conn

import (
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// The commands that glockd and lockd for Node.js do not have.

// numbers takes decimal numbers off the front of arg. It tells whether all of
// them were there, each from its least to its most.
func numbers(arg []byte, into ...argument) (name []byte, ok bool) {
	for _, a := range into {
		n, rest, ok := wire.Number(arg)
		if !ok || n < a.least || n > a.most {
			return nil, false
		}
		*a.value = n
		arg = rest
	}
	return arg, true
}

type argument struct {
	value       *uint64
	least, most uint64
}

func invalidArgument(out []byte, verb string) []byte {
	return wire.AppendReply(out, 0, wire.InvalidArgument, []byte(verb))
}

func (s *Session) getWait(arg, out []byte) []byte {
	var ms uint64
	name, ok := numbers(arg, argument{&ms, 0, wire.MaxWait})
	if !ok {
		return invalidArgument(out, "gw")
	}
	due := s.patience(ms)
	g, outcome := s.hub.locks.GetWait(&s.owner, name, due)
	return s.begun(out, g, outcome, false, name, due)
}

func (s *Session) getSharedLimit(arg, out []byte) []byte {
	var limit uint64
	name, ok := numbers(arg, argument{&limit, 1, wire.MaxLimit})
	if !ok {
		return invalidArgument(out, "sgl")
	}
	g, outcome := s.hub.locks.GetSharedLimit(&s.owner, name, uint32(limit))
	switch outcome {
	case shard.Acquired:
		return wire.AppendReply(out, uint64(g.Count), wire.SharedGetSuccess, name)
	case shard.Refused:
		return wire.AppendReply(out, 0, wire.SharedLimitReached, name)
	}
	return refused(out, outcome, name)
}

func (s *Session) getSharedWait(arg, out []byte) []byte {
	var limit, ms uint64
	name, ok := numbers(arg, argument{&limit, 1, wire.MaxLimit}, argument{&ms, 0, wire.MaxWait})
	if !ok {
		return invalidArgument(out, "sgw")
	}
	due := s.patience(ms)
	g, outcome := s.hub.locks.GetSharedWait(&s.owner, name, uint32(limit), due)
	return s.begun(out, g, outcome, true, name, due)
}

func (s *Session) token(name, out []byte) []byte {
	if token, ok := s.hub.locks.Token(&s.owner, name); ok {
		return wire.AppendReply(out, token, wire.LockToken, name)
	}
	return wire.AppendReply(out, 0, wire.NotHeld, name)
}

func (s *Session) takeRate(arg, out []byte) []byte {
	var limit, ms, units uint64
	name, ok := numbers(arg, argument{&limit, 1, wire.MaxLimit}, argument{&ms, 1, wire.MaxWait}, argument{&units, 0, wire.MaxLimit})
	if !ok || units > limit {
		return invalidArgument(out, "rl")
	}
	rate := shard.Rate{Limit: uint32(limit), Window: ms * uint64(time.Millisecond)}
	v := s.hub.locks.Take(name, rate, uint32(units), s.hub.clock.nanoseconds())
	switch v.Outcome {
	case shard.Acquired:
		s.hub.clock.expect(s.hub.clock.milliseconds() + sweepMilliseconds)
		return wire.AppendReply(out, uint64(v.Open), wire.RateAllowed, name)
	case shard.Refused:
		const ms = uint64(time.Millisecond)
		return wire.AppendRateLimited(out, (v.Retry+ms-1)/ms, name)
	}
	return refused(out, v.Outcome, name)
}

func (s *Session) inspectRate(arg, out []byte) []byte {
	var limit, ms uint64
	name, ok := numbers(arg, argument{&limit, 1, wire.MaxLimit}, argument{&ms, 1, wire.MaxWait})
	if !ok {
		return invalidArgument(out, "ri")
	}
	rate := shard.Rate{Limit: uint32(limit), Window: ms * uint64(time.Millisecond)}
	return wire.AppendReply(out, uint64(s.hub.locks.Open(name, rate, s.hub.clock.nanoseconds())), wire.RateOpen, name)
}

func (s *Session) ping(_, out []byte) []byte { return append(out, wire.Pong...) }

// auth accepts any token: this server asks for none.
func (s *Session) auth(_, out []byte) []byte { return append(out, wire.OK...) }

func (s *Session) bye(_, out []byte) []byte {
	out = s.cancelWaitBefore(out)
	s.stream.listing = &farewell{s}
	return out
}

// hello begins protocol 2, with the next line.
func (s *Session) hello(arg, out []byte) []byte {
	if n, rest, ok := wire.Number(arg); !ok || n != 2 || len(rest) > 0 {
		return invalidArgument(out, "hello")
	}
	s.stream.multiplexed = true
	out = append(out, "2 lockd "...)
	out = append(out, s.hub.cfg.Version...)
	return append(out, '\n')
}

func (s *Session) cancel(_, out []byte) []byte {
	return append(s.cancelWaitBefore(out), wire.OK...)
}

// cancelWaitBefore ends the wait, if any, and puts the reply to the request
// that waited before the reply that out ends with the beginning of.
func (s *Session) cancelWaitBefore(out []byte) []byte {
	if s.wait == nil {
		return out
	}
	st := s.stream
	out = out[:len(out)-len(st.appendNumber(nil, s))]
	return st.appendNumber(s.cancelWait(out), s)
}
