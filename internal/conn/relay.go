package conn

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
)

// relaysMost is how many requests have a connection to upstream of their own at a time,
// besides those whose clients have not read for unreadFor. relaySilent is for how long
// upstream may say nothing on one.
const (
	relaysMost  = 4
	unreadFor   = time.Second
	relaySilent = time.Minute
)

// relay makes a request over a connection of its own. What comes is taken as fast as to
// takes it.
func (u *uplink) relay(introduction string, request []byte, to session.Relay) (cancel func()) {
	ctx, cancel := context.WithCancel(u.ctx)
	u.over.Go(func() {
		defer cancel()
		p := &relayPlace{Relay: to, places: u.relays, ctx: ctx}
		defer p.leave()
		if !p.enter() || !u.relayOver(ctx, introduction, request, p) {
			to.Fail()
		}
	})
	return cancel
}

// A relayPlace is one of relaysMost places. While its client does not read, others have
// it.
type relayPlace struct {
	session.Relay
	places chan struct{}
	ctx    context.Context
	has    bool
	timer  *time.Timer   // fires when the client has not read for too long
	left   chan struct{} // has one for each time that it has
}

func (p *relayPlace) enter() bool {
	select {
	case p.places <- struct{}{}:
		p.has = true
	case <-p.ctx.Done():
	}
	return p.has && p.ctx.Err() == nil
}

func (p *relayPlace) leave() {
	if p.has {
		p.has = false
		<-p.places
	}
}

// Take implements session.Relay.
func (p *relayPlace) Take(part []byte) (more bool) {
	if p.timer == nil {
		p.left = make(chan struct{}, 1)
		p.timer = time.AfterFunc(unreadFor, func() {
			p.leave()
			p.left <- struct{}{}
		})
	} else {
		p.timer.Reset(unreadFor)
	}
	more = p.Relay.Take(part)
	if p.timer.Stop() {
		return more
	}
	<-p.left
	return p.enter() && more
}

// relayOver tells whether the reply was whole, or nobody wants it any more.
func (u *uplink) relayOver(ctx context.Context, introduction string, request []byte, to session.Relay) bool {
	conn, err := u.to.Dial(ctx)
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	out := []byte(wire.Hello + " 2\n")
	skip := 1
	if u.to.Token != nil {
		token, err := u.to.Token(ctx)
		if err != nil {
			return false
		}
		out = append(out, "0 "+wire.Auth+" "+token+"\n"...)
		skip++
	}
	if introduction != "" {
		// What it does not take must not be followed by the request: it would be a
		// client's, about all that there is.
		if _, err := conn.Write(append(out, "0 "+introduction+"\n"...)); err != nil {
			return false
		}
		var answer introduced
		if !takeReply(conn, skip, &answer, relaySilent) || !bool(answer) {
			return false
		}
		out, skip = nil, 0
	}
	out = append(append(append(out, "0 "...), request...), '\n')
	if _, err := conn.Write(out); err != nil {
		return false
	}
	return takeReply(conn, skip, to, relaySilent)
}

// introduced is whether an introduction was taken.
type introduced bool

// Take implements session.Relay. The answer is a short line.
func (i *introduced) Take(part []byte) (more bool) {
	*i = introduced(bytes.HasPrefix(part, []byte("1 ")) && bytes.HasSuffix(part, []byte("\n")))
	return false
}

// Fail implements session.Relay.
func (*introduced) Fail() {}

// takeReply passes on what comes behind so many lines, as long as there is no longer
// silence.
func takeReply(conn net.Conn, skip int, to session.Relay, silent time.Duration) bool {
	in := bufio.NewReaderSize(conn, 32<<10)
	begins := true
	for {
		if in.Buffered() == 0 {
			if err := conn.SetReadDeadline(time.Now().Add(silent)); err != nil {
				return false
			}
		}
		part, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
		ends := err == nil
		if skip > 0 {
			if ends {
				skip--
			}
			continue
		}
		if begins {
			part = bytes.TrimPrefix(part, []byte("0 "))
		}
		if begins = ends; !to.Take(part) {
			return true
		}
	}
}
