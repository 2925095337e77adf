package client

import "context"

// DropRate drops the rate name: all units of it are open then, as if nobody had
// taken any. It is for those who watch over a server; a Limiter needs it never.
//
// It returns ErrNoSuchRate if all units are open already, ErrNotAllowed, and
// ErrNoDropRate if the server is too old.
func (c *Client) DropRate(ctx context.Context, name string) error {
	name, err := c.check(dropRate, name)
	if err != nil {
		return err
	}
	answer := ErrNoDropRate // a server says nothing to what it does not know
	err = c.list(ctx, dropRate, name, func(line string) error {
		answer = answerOf([]byte(line), dropRate, name)
		return nil
	})
	if err != nil {
		return err
	}
	return answer
}

// DropRate drops the rate name: all units of it are open then, as if nobody had
// taken any. It is for those who watch over a server; a Limiter needs it never.
//
// It returns ErrNoSuchRate if all units are open already, ErrNotAllowed, and
// ErrNoDropRate if the server is too old.
func (l *Locker) DropRate(ctx context.Context, name string) error {
	name, err := l.check(name)
	if err != nil {
		return err
	}
	m, s, err := l.call(ctx, dropRate, arguments{}, name, false)
	switch {
	case err != nil:
		return err
	case s == nil:
		return ErrNoDropRate
	}
	err = s.err
	m.put(s)
	return err
}
