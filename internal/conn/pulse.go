package conn

import (
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// A pulse is whether a WebSocket client is there, who may be behind a proxy: the
// proxy's kernel answers keep-alive whatever has become of the client. So one that is
// silent gets a ping, before the proxy may take the connection for an idle one: many
// cut those after 60 s.
//
// Browsers, and most libraries, answer by themselves; but those of some languages do
// so only while the program reads, which it may not do while it works under its lock.
// So a client that has left a ping unanswered is dead only if it has answered one by
// itself before: with nothing that it asked in between. To find out, the first one
// comes soon. There is one unanswered ping at a time, so a client that does not read
// is not sent any more.
//
// Whoever looks at the time, and whoever moves the bytes, may be two goroutines. And
// the server may have been stopped, or busy: then its answer may be here, and unread. So
// it is judged by two looks.
type pulse struct {
	state  atomic.Uint32
	silent uint32 // since when, in milliseconds of the server; who looks keeps it
	since  uint32 // when the last ping was sent
}

// The bits of a pulse's state.
const (
	fresh    = 1 << iota // something has come since the last look
	asked                // a ping is unanswered
	alone                // and the client has asked for nothing since
	responds             // it answers by itself
	proven               // the first ping has been sent
	overdue              // at the last look its answer was
)

const (
	firstPing = time.Second
	mostPing  = 45 * time.Second
)

type pulseNext uint8

const (
	pulseFine pulseNext = iota
	pulseAsk            // send a ping, and tell by asked
	pulseDead
)

func (s *Server) milliseconds(now time.Time) uint32 {
	return uint32(now.Sub(s.began) / time.Millisecond)
}

func (p *pulse) begin(s *Server) { p.silent = s.milliseconds(time.Now()) }

// beat notes that something has come.
func (p *pulse) beat() {
	if p.state.Load()&fresh == 0 {
		p.state.Or(fresh)
	}
}

// spoke notes that it was something which the client says on its own.
func (p *pulse) spoke() {
	if p.state.Load()&alone != 0 {
		p.state.And(^uint32(alone))
	}
}

// answered notes a pong.
func (p *pulse) answered() {
	if state := p.state.Load(); state&asked != 0 {
		if state&alone != 0 {
			p.state.Or(responds)
		}
		p.state.And(^uint32(asked | alone | overdue))
	}
}

// look returns for how long the client has been silent, and what to do about that.
func (p *pulse) look(s *Server, now time.Time, wanted bool) (silent time.Duration, next pulseNext) {
	ms := s.milliseconds(now)
	state := p.state.Load()
	if state&fresh != 0 {
		p.state.And(^uint32(fresh | overdue))
		p.silent = ms
		state &^= overdue
	}
	silent = time.Duration(ms-p.silent) * time.Millisecond
	since := time.Duration(ms-p.since) * time.Millisecond // the last ping
	limit, least, after := s.deadPeer, s.deadPeer/4, min(s.deadPeer*5/8, mostPing)
	if wanted {
		limit, least = wantedLimit, wantedLeast
	}
	if state&proven == 0 {
		after = min(after, firstPing)
	}
	switch {
	case state&asked == 0 && (silent >= after || wanted && since >= wantedEvery):
		return silent, pulseAsk
	case state&asked != 0 && state&responds != 0 && silent >= limit && since >= least:
		if state&overdue != 0 {
			return silent, pulseDead
		}
		p.state.Or(overdue)
	}
	return silent, pulseFine
}

// asked notes that a ping is sent.
func (p *pulse) asked(s *Server, now time.Time) {
	p.since = s.milliseconds(now)
	p.state.Or(asked | alone | proven)
}

// notAsked takes it back: the client does not read.
func (p *pulse) notAsked() { p.state.And(^uint32(asked | alone | overdue)) }

// appendPing appends a ping.
func appendPing(out []byte) []byte { return appendFrame(out, ws.OpPing, true, nil) }
