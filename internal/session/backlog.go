package session

import (
	"math"
	"slices"

	"github.com/nylen/lockd/internal/wire"
)

// What is abroad is what a session of a node has to do with other nodes, beside its remotes.
// Only the session's stream uses it.
type abroad struct {
	// The backlog is the requests that are not executed yet, in their order: the first one waits
	// for replies of another node, or for its partition to be served somewhere, or for the
	// node's right to serve.
	backlog []put
	since   uint64 // when the first one became that, in milliseconds of the hub's clock
	until   uint64 // before when it is not asked for again, as it was answered with `Elsewhere`

	// turned: at the end of a link, the session is told `Elsewhere` until it says that it goes
	// on: what it has asked behind that is not to be executed before it.
	turned bool
}

func (s *Session) goesAbroad() *abroad {
	if s.abroad == nil {
		s.abroad = new(abroad)
	}
	return s.abroad
}

// A put request is one that is put off.
type put struct {
	command *command // nil: it is no request, but a reply, which is in name
	numbers numbers
	name    []byte
	since   uint64 // when it came, in milliseconds of the hub's clock
	held    bool   // a release of what the session held, which may have been executed where it was asked first
}

// putBytes is about what one takes beside its name.
const putBytes = 96

// putOff has a request wait behind the others of its session.
func (s *Session) putOff(c *command, name []byte) {
	a := s.begun()
	a.backlog = append(a.backlog, put{command: c, numbers: s.args(), name: slices.Clone(name), since: s.hub.clock.milliseconds()})
	s.stream.unanswered.Add(1)
	s.stream.underWay.Add(int32(putBytes + len(name)))
}

// begun is what the session has abroad, with a backlog that is about to begin, if it has none.
func (s *Session) begun() *abroad {
	a := s.goesAbroad()
	if len(a.backlog) == 0 {
		a.since = s.hub.clock.milliseconds()
	}
	return a
}

// putLiteral has a reply that was made already come behind those to what is put off.
func (s *Session) putLiteral(text []byte) {
	a := s.begun()
	a.backlog = append(a.backlog, put{name: slices.Clone(text)})
	s.stream.unanswered.Add(1)
	s.stream.underWay.Add(int32(putBytes + len(text)))
}

// putFirst has requests wait in front of the others.
func (s *Session) putFirst(all []put) {
	a := s.begun()
	for i := range all {
		s.stream.underWay.Add(int32(putBytes + len(all[i].name)))
	}
	s.stream.unanswered.Add(int32(len(all)))
	a.backlog = append(all, a.backlog...)
}

// takePut takes the first one out.
func (s *Session) takePut() put {
	a := s.abroad
	first := a.backlog[0]
	a.backlog[0] = put{}
	a.since = s.hub.clock.milliseconds()
	if a.backlog = a.backlog[1:]; len(a.backlog) == 0 {
		a.backlog = nil
	}
	s.stream.unanswered.Add(-1)
	s.stream.underWay.Add(-int32(putBytes + len(first.name)))
	return first
}

// dropBacklog is for a session that ends.
func (s *Session) dropBacklog() {
	for s.waitsInBacklog() {
		s.takePut()
	}
}

func (s *Session) waitsInBacklog() bool { return s.abroad != nil && len(s.abroad.backlog) > 0 }

// goOn executes what it can of the backlog.
func (s *Session) goOn(out []byte) []byte {
	st := s.stream
	if s.waitsInBacklog() && s.hub.clock.milliseconds() < s.abroad.until {
		s.hub.node.again(s)
		return out
	}
	for s.waitsInBacklog() && st.long == nil && st.postponed == nil {
		first := &s.abroad.backlog[0]
		switch {
		case s.wait == nil || s.wait.parked && first.command == nil:
		case s.wait.parked: // it may be what takes that up
			s.unparkFor(first.command, first.name)
		case first.command == nil || first.command.flags&endsWait == 0:
			return out
		}
		if first.command == nil {
			if s.behind() {
				break
			}
			out = append(out, s.takePut().name...)
			continue
		}
		st.turn.args, st.turn.asks.held = first.numbers, first.held
		before, behind, done := len(out), s.behind(), false
		out, done = s.route(first.command, first.name, out)
		st.turn.asks.held = false
		switch {
		case !done && s.isLate(first):
			out, done = s.unavailable(first, out), true
		case done && first.held && len(out) > before:
			out = s.released(first, out[:before])
		}
		if !done {
			break
		}
		if behind && len(out) > before {
			out = s.say(out, before)
		}
		p := s.takePut()
		if st.postponed != nil && st.postponed.command == nil {
			st.postponed.request(p.command, p.name, p.numbers)
		}
	}
	return out
}

// released replies to a release of what the session held, wherever that was executed.
func (s *Session) released(p *put, out []byte) []byte {
	if p.command.verb == wire.ReleaseShared {
		return s.reply(out, 1, wire.SharedReleaseSuccess, p.name)
	}
	return s.reply(out, 1, wire.ReleaseSuccess, p.name)
}

// say has what was said of a session behind some bytes come in its place among the replies
// of another node that are to come first.
func (s *Session) say(out []byte, behind int) []byte {
	s.stream.askUpstream()
	if s.stream.multiplexed && s.remote.waits.Load() > 0 {
		s.remote.probe(out[behind:])
	} else {
		s.remote.literal(out[behind:])
	}
	return out[:behind]
}

// isLate tells whether the first request has been put off for as long as may be: how long others
// in front of it have taken does not count, as a client knows that it has asked for them.
func (s *Session) isLate(p *put) bool {
	return s.hub.clock.milliseconds()-s.abroad.since > s.patienceFor(p.command)
}

// patienceFor is for how many milliseconds a request may be put off. A claim waits for as long as its
// client does, see late.
func (s *Session) patienceFor(c *command) uint64 {
	n := s.hub.node
	if isClaim(c) || c.verb == wire.Claimed {
		return math.MaxUint64
	}
	if !s.stream.multiplexed && c.flags&mayWait == 0 {
		prompt := max(plainTicks, uint32(n.cfg.Prompt/tickEvery))
		return uint64(prompt) * uint64(tickEvery.Milliseconds())
	}
	return uint64(n.cfg.Patience.Milliseconds())
}

// unavailable replies that nobody who serves it can be asked. Nothing has been done then.
func (s *Session) unavailable(p *put, out []byte) []byte {
	s.hub.node.unavailable.Add(1)
	name := p.name
	if p.command.flags&ofName == 0 {
		name = []byte(p.command.verb)
	}
	return s.incomplete(p.command, out, name)
}
