package client

import (
	"context"
	"errors"
	"iter"
)

// Look returns everybody who holds the lock name or waits for it, exclusive and
// shared, and the rate of that name: those of the exclusive lock first, and who
// waits behind those who hold, in the order of their turn. It is empty if there
// is nothing. It may be out of date when it arrives.
//
// It returns ErrNoLook if the server is too old, ErrNotAllowed if it does not
// tell this client, and ErrDisabled if it tells nobody.
func (c *Client) Look(ctx context.Context, name string) ([]Entry, error) {
	var all []Entry
	err := c.look(ctx, look, name, func(e Entry) error {
		all = append(all, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// List is Look for all names that begin with prefix, in no order; with an
// empty prefix for all there are. It is no snapshot: locks come and go while the
// server lists them. An error comes last. The loop asks when it begins, each time
// anew:
//
//	for entry, err := range c.List(ctx, "order ") {
//		if err != nil {
//			return err
//		}
//		fmt.Println(entry.Name, entry.State, entry.Registered)
//	}
//
// As of all names, the blanks at a prefix's ends are dropped: "order " also finds
// "orders".
//
// Entries are passed on as they come, so a list may be long. Nobody waits for a
// loop that is slow: what has come and was not passed on is kept, up to
// Options.MaxReply; past that the connection is given up because of
// ErrReplyTooLong. When the loop ends early or ctx does, the rest of the list
// still comes, and goes nowhere, before the client's next request is sent; if that
// is more than MaxReply, the connection is given up as well, and its locks with it.
// A request that the loop makes waits for the end of the list.
func (c *Client) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return stream(func(each func(Entry) error) error { return c.look(ctx, lookAll, prefix, each) })
}

// Kick ends the client with that address, which is an Entry's or a Peer's. It is
// disconnected, and all that it held is free when Kick returns. A session, IP:PORT#S,
// may take its whole connection with it. A Locker on the other side connects again
// by itself, without its locks.
//
// It returns ErrNoSuchClient if there is none (any more), ErrNotAllowed, and
// ErrNoKick if the server is too old.
func (c *Client) Kick(ctx context.Context, addr string) error {
	addr, err := fold(addr)
	if err != nil {
		return err
	}
	answer := ErrNoKick // a server says nothing to what it does not know
	err = c.list(ctx, kick, addr, func(line string) error {
		answer = answerOf([]byte(line), kick, addr)
		return nil
	})
	if err != nil {
		return err
	}
	return answer
}

// look asks, and passes on what there is.
func (c *Client) look(ctx context.Context, v *verb, name string, each func(Entry) error) error {
	return c.tabbed(ctx, v, name, func(line string) error {
		e, err := parseEntry(line)
		if err != nil {
			return err
		}
		return each(e)
	})
}

// tabbed asks for lines with fields, and passes them on.
func (c *Client) tabbed(ctx context.Context, v *verb, name string, each func(line string) error) error {
	answer := v.missing // a server says nothing to what it does not know
	_, err := c.askMany(ctx, v, name, func(line []byte) error {
		if isTabbed(line) {
			return each(string(line))
		}
		answer = answerOf(line, v, "")
		return nil
	})
	if err != nil {
		return err
	}
	return answer
}

// answerOf reads a line in front of an end mark, which shows that the connection
// is in step whatever the line is.
func answerOf(line []byte, v *verb, name string) error {
	r, err := parseReply(line, v, name, v.most)
	if err != nil {
		return &ReplyError{Reply: string(line)}
	}
	return r.err
}

// Look returns everybody who holds the lock name or waits for it, exclusive and
// shared, this Locker's own included, and the rate of that name: those of the
// exclusive lock first, and who waits behind those who hold, in the order of
// their turn. It is empty if there is nothing. It may be out of date when it
// arrives.
//
// It waits for a connection, and asks again over the next one, as Acquire does. It
// returns ErrNoLook if the server is too old, ErrNotAllowed if it does not tell
// this client, and ErrDisabled if it tells nobody.
func (l *Locker) Look(ctx context.Context, name string) ([]Entry, error) {
	var all []Entry
	err := l.tabbed(ctx, look, arguments{}, name, func(line string) error {
		e, err := parseEntry(line)
		all = append(all, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// tabbed asks for lines with fields, and passes them on when all are there.
func (l *Locker) tabbed(ctx context.Context, v *verb, a arguments, name string, each func(line string) error) error {
	name, err := l.check(name)
	if err != nil {
		return err
	}
	a.lines = newLines(l.opts.MaxReply, nil)
	m, s, err := l.call(ctx, v, a, name, true)
	switch {
	case err != nil:
		return err
	case s == nil:
		return v.missing
	}
	err = s.err
	m.put(s)
	if err != nil {
		return err
	}
	return a.lines.passOn(func(line []byte) error { return each(string(line)) })
}

// List is Look for all names that begin with prefix, in no order; with an
// empty prefix for all there are. It is no snapshot: locks come and go while the
// server lists them. An error comes last. The loop asks when it begins, each time
// anew:
//
//	for entry, err := range l.List(ctx, "order ") {
//		if err != nil {
//			return err
//		}
//		fmt.Println(entry.Name, entry.State, entry.Registered)
//	}
//
// As of all names, the blanks at a prefix's ends are dropped: "order " also finds
// "orders".
//
// A long list would keep the answers to all other goroutines waiting. So it comes
// over a connection of its own, which is made when there is one for locks and ends
// with the loop. If it cannot be made, or is lost, the error is an ErrLost, and
// locks are not concerned. Entries are passed on as they come; what has come and
// was not passed on, since the loop is slow, is kept, up to Options.MaxReply, past
// which the error is an ErrReplyTooLong. The loop may use the Locker.
func (l *Locker) List(ctx context.Context, prefix string) iter.Seq2[Entry, error] {
	return stream(func(each func(Entry) error) error {
		m, err := l.connection(ctx)
		switch {
		case err != nil:
			return err
		case m.old:
			return ErrNoLook
		}
		opts := l.opts.Options
		opts.Name = "" // it holds nothing
		c, err := New(opts)
		if err != nil {
			return err
		}
		defer c.Close()
		unhook := context.AfterFunc(l.ctx, func() { c.end(ErrClosed) })
		defer unhook()
		return c.look(ctx, lookAll, prefix, each)
	})
}

// Kick ends the client with that address, which is an Entry's or a Peer's. It is
// disconnected, and all that it held is free when Kick returns. A session, IP:PORT#S,
// may take its whole connection with it. A Locker on the other side connects again
// by itself, without its locks.
//
// It returns ErrNoSuchClient if there is none (any more), ErrNotAllowed, and
// ErrNoKick if the server is too old. If the connection is lost on the way, the
// error is an ErrLost, and nobody knows whether the client was ended.
func (l *Locker) Kick(ctx context.Context, addr string) error {
	addr, err := l.check(addr)
	if err != nil {
		return err
	}
	m, s, err := l.call(ctx, kick, arguments{}, addr, false)
	switch {
	case err != nil:
		return err
	case s == nil:
		return ErrNoKick
	}
	err = s.err
	m.put(s)
	return err
}

// stream makes a look what a loop can go over.
func stream(look func(each func(Entry) error) error) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		err := look(func(e Entry) error {
			if !yield(e, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Entry{}, err)
		}
	}
}

// errEnough ends a look whose loop has ended.
var errEnough = errors.New("enough")
