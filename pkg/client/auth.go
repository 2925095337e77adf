package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// Who one is, the server is told before anything else: what a client may do hangs
// on it. A server that asks nobody takes any token.

// markAfter is how long there is no reply to a token before one asks whether there
// is going to be any: longer than a server takes to refuse one.
const markAfter = 300 * time.Millisecond

// authenticate presents the token of the options, if there is one.
//
// A server that is too old for tokens says nothing to it. So if there is silence,
// another request follows, which every server answers. It does not follow at once,
// since glockd may lose what comes right behind a request (see lineTransport.send).
func (o *Options) authenticate(ctx context.Context, t transport) (err error) {
	if o.Token == nil {
		return nil
	}
	token, err := o.Token(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoToken, err)
	}
	if err := checkToken(token); err != nil {
		return fmt.Errorf("%w: what Options.Token returned %w", ErrNoToken, err)
	}
	stop := context.AfterFunc(ctx, func() { t.close() })
	defer func() {
		if !stop() {
			err = ctx.Err()
		}
	}()
	if err := t.send(request{verb: wire.Auth, name: token}); err != nil {
		return err
	}
	mark := time.AfterFunc(markAfter, func() { t.send(request{verb: me.word}) }) // if that fails, so does reading
	line, err := t.readLine()
	marked := !mark.Stop()
	switch {
	case err != nil:
		return err
	case string(line) == tooManyConnections:
		return ErrTooManyConnections
	case string(line) == authFailed:
		return ErrAuthFailed
	case string(line) == "1 "+okText:
		if marked {
			_, err = t.readLine() // the reply to the mark
		}
		return err
	case hasPrefix(line, "0 ") && !strings.Contains(string(line), token):
		return fmt.Errorf("%w: %w", ErrAuthFailed, &ReplyError{Reply: string(line)})
	case marked && hasPrefix(line, "1 "):
		return ErrNoAuth
	}
	return fmt.Errorf("%w to %q", ErrProtocol, wire.Auth) // but not what it was: the token may be in it
}

var authFailed = strings.TrimSuffix(wire.AuthFailed, "\n")

// isRefusal tells whether an attempt to connect has come to nothing because of who
// one is: then it is no outage, and waiting does not help.
func isRefusal(err error) bool {
	for _, refusal := range []error{ErrAuthFailed, ErrNotAuthenticated, ErrNoToken, ErrNoAuth} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
