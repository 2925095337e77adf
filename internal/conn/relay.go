package conn

import (
	"bufio"
	"bytes"
	"context"
	"net"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
)

// relaysMost is how many requests have a connection to upstream of their own at a time.
const relaysMost = 4

// relay makes a request over a connection of its own. What comes is taken as fast as to
// takes it.
func (u *uplink) relay(request []byte, to session.Relay) (cancel func()) {
	ctx, cancel := context.WithCancel(u.ctx)
	u.over.Go(func() {
		defer cancel()
		select {
		case u.relays <- struct{}{}:
			defer func() { <-u.relays }()
		case <-ctx.Done():
		}
		if ctx.Err() != nil || !u.relayOver(ctx, request, to) {
			to.Fail()
		}
	})
	return cancel
}

// relayOver tells whether the reply was whole, or nobody wants it any more.
func (u *uplink) relayOver(ctx context.Context, request []byte, to session.Relay) bool {
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
	out = append(append(append(out, "0 "...), request...), '\n')
	if _, err := conn.Write(out); err != nil {
		return false
	}
	return takeReply(conn, skip, to)
}

// takeReply passes on what comes behind so many lines.
func takeReply(conn net.Conn, skip int, to session.Relay) bool {
	in := bufio.NewReaderSize(conn, 32<<10)
	begins := true
	for {
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
