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

// keptMarkAfter is the same for who wants to be kept, which has to be asked for before
// anything else: so nobody else's request may come first because of a slow network.
const keptMarkAfter = 2 * time.Second

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
	mark := time.AfterFunc(o.markAfter, func() { t.send(request{verb: me.word}) }) // if that fails, so does reading
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

// Whoever was known may not be any more: a token was replaced by another one, and the
// old one taken away, while the connection stood. What is held stays held. So the
// token, which may be a new one by now, is presented once more over the connection, and
// the request is made again.

// errUnknown ends a connection over which a lock cannot be released any more, and so
// releases it.
var errUnknown = errors.New("a lock could not be released: the server does not know this client any more")

var auth = &verb{word: wire.Auth, most: 1, yes: okText}

// tokenAgain returns the token to present after an error, if that may help.
func (o *Options) tokenAgain(ctx context.Context, err error) (token string, ok bool) {
	if o.Token == nil || !errors.Is(err, ErrNotAuthenticated) {
		return "", false
	}
	token, err = o.Token(ctx)
	return token, err == nil && checkToken(token) == nil
}

// knownAgain presents the token by a session whose request was refused, and tells
// whether to make that again. If gone, the session is; else the caller has it.
func (m *mux) knownAgain(ctx context.Context, s *session) (ok, gone bool) {
	token, ok := m.opts.tokenAgain(ctx, s.err)
	if !ok || m.again(s, auth, token) != nil {
		return false, false
	}
	if m.wait(ctx, s) != nil { // which tells the token
		return false, true
	}
	return s.err == nil, false
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
