package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/nylen/lockd/internal/wire"
)

// negotiate begins protocol 2, or tells that the server is too old for it.
//
// An old server says nothing to what it does not know, and no line is a valid
// request of both protocols, so nothing can follow a hello before its reply is
// here. Therefore a ping asks first whether the server knows the newer
// commands, and an inspection behind it, which every server answers, shows
// whether there is going to be a pong. The hello goes out with them; an old
// server ignores it as it does the ping.
//
// Between the two goes the question for the server's limits. A server that speaks
// protocol 2 and is too old for that ignores it, too.
//
// glockd would lose the inspection (see lineTransport.send), and with WebSocket
// the pong. It gives itself away by the answer to another one, alone, before.
//
// A server that asks who one is refuses inspections until it knows, or of names
// that are not for this client, and answers the rest to anybody.
//
// The hello goes out while the server may be writing replies to what came
// before it; neither end waits for the other, see unblocked.
// It fails with ErrNotAuthenticated if the server does not know who this is.
func negotiate(ctx context.Context, t transport) (old bool, told limits, err error) {
	old, known, err := handshake(ctx, t, true, &told)
	if err == nil && !known {
		err = ErrNotAuthenticated
	}
	return old, told, err
}

// handshake is negotiate, for who may not be known yet, and need not know the limits
// if told is nil. Without the upgrade it leaves out the hello: then it tells how old
// the server is, and goes on in protocol 1.
func handshake(ctx context.Context, t transport, upgrade bool, told *limits) (old, known bool, err error) {
	stop := context.AfterFunc(ctx, func() { t.close() })
	defer func() {
		if !stop() {
			err = ctx.Err()
		}
	}()
	mark := rand.Text()
	if err := t.send(request{verb: inspect.word, name: mark}); err != nil {
		return false, false, err
	}
	line, err := t.readLine()
	if err != nil {
		return false, false, err
	}
	if string(line) == tooManyConnections {
		return false, false, ErrTooManyConnections
	}
	r, err := parseReply(line, inspect, mark, inspect.most)
	known = true
	switch {
	case err != nil:
		return false, false, err
	case errors.Is(r.err, ErrNotAuthenticated): // it knows all that comes now
		known = false
	case errors.Is(r.err, ErrNotAllowed):
	case r.err != nil:
		return false, false, r.err
	case t.endedCRLF():
		return true, true, nil
	}
	old, err = upgraded(t, upgrade, told)
	return old, known, err
}

// upgraded is the rest of a handshake, with a server that may know more.
func upgraded(t transport, upgrade bool, told *limits) (old bool, err error) {
	mark := rand.Text()
	question := ping.word
	if told != nil {
		if err := t.send(request{verb: question}); err != nil {
			return false, err
		}
		question = wire.Limits
	}
	if err := t.send(request{verb: question, mark: mark}); err != nil {
		return false, err
	}
	if upgrade {
		if err := t.send(request{verb: hello.word, name: "2"}); err != nil {
			return false, err
		}
	}
	line, err := t.readLine()
	if err != nil {
		return false, err
	}
	if isEnd(line, mark) {
		return true, nil
	}
	if r, err := parseReply(line, ping, "", ping.most); err != nil {
		return false, err
	} else if r.err != nil {
		return false, r.err
	}
	if line, err = t.readLine(); err != nil {
		return false, err
	}
	if told != nil && hasPrefix(line, "1 "+wire.DeadPeer) {
		*told = parseLimits(line[len("1 "):])
		if line, err = t.readLine(); err != nil {
			return false, err
		}
	}
	if !isEnd(line, mark) && string(line) != notAuthenticated && string(line) != "0 "+wire.NotAllowed+inspect.word {
		return false, notReply(line, inspect)
	}
	if !upgrade {
		return false, nil
	}
	if line, err = t.readLine(); err != nil {
		return false, err
	}
	if n, text, ok := number(line); !ok || n != 2 || !hasPrefix(text, wire.Greeting) {
		if ok && n == 0 && hasPrefix(text, wire.InvalidArgument) {
			return true, nil // a server of the future that has given up protocol 2
		}
		return false, fmt.Errorf("%w to %q: %q", ErrProtocol, hello.word, line[:min(len(line), 200)])
	}
	return false, nil
}
