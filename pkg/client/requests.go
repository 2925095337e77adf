package client

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
)

// Get acquires the exclusive lock name, or returns ErrNotAcquired at once if
// another client holds it. Getting a lock that this client holds already
// succeeds and changes nothing: one Release frees it.
func (c *Client) Get(ctx context.Context, name string) error {
	_, err := c.ask(ctx, get, name)
	return err
}

// Release releases the exclusive lock name, or returns ErrNotHeld if this
// client does not hold it.
func (c *Client) Release(ctx context.Context, name string) error {
	_, err := c.ask(ctx, release, name)
	return err
}

// Inspect tells whether any client, this one included, holds the exclusive
// lock name. The answer may be out of date when it arrives.
func (c *Client) Inspect(ctx context.Context, name string) (bool, error) {
	n, err := c.ask(ctx, inspectNamed, name)
	return n > 0, err
}

// GetShared acquires the shared lock name and returns how many clients hold it
// now, this one included. It does not fail because others hold it; a caller
// for whom they are too many calls ReleaseShared. Getting it again does not
// count twice.
func (c *Client) GetShared(ctx context.Context, name string) (int, error) {
	n, err := c.ask(ctx, getShared, name)
	return int(n), err
}

// ReleaseShared gives back the shared lock name, or returns ErrNotHeld if this
// client does not hold it.
func (c *Client) ReleaseShared(ctx context.Context, name string) error {
	_, err := c.ask(ctx, releaseShared, name)
	return err
}

// InspectShared returns how many clients hold the shared lock name. lockd for
// Node.js tells it to holders only, and 0 to others.
func (c *Client) InspectShared(ctx context.Context, name string) (int, error) {
	n, err := c.ask(ctx, inspectShared, name)
	return int(n), err
}

// Dump returns who holds the exclusive lock name: the name under which the
// holder registered, or else its address. If nobody does, held is false.
func (c *Client) Dump(ctx context.Context, name string) (holder string, held bool, err error) {
	holders, err := c.holders(ctx, dump, name)
	if err != nil || len(holders) == 0 {
		return "", false, err
	}
	return holders[0], true, nil
}

// DumpAll returns every exclusive lock that is held and who holds it, as in
// Dump. It is no snapshot: locks come and go while the server lists them.
//
// The server writes `NAME: HOLDER` and both may have a ": " in them. The last
// one is taken for the border, so a lock whose holder registered under a name
// with a ": " shows up under a name that is too long. Dump has no such doubt.
func (c *Client) DumpAll(ctx context.Context) (map[string]string, error) {
	locks := make(map[string]string)
	err := c.list(ctx, dump, "", func(line string) error {
		name, holder, err := splitLast(line)
		locks[name] = holder
		return err
	})
	if err != nil {
		return nil, err
	}
	return locks, nil
}

// DumpShared returns who holds the shared lock name, each as in Dump and, from
// lockd, in the order in which they got it. If nobody does it is empty.
func (c *Client) DumpShared(ctx context.Context, name string) ([]string, error) {
	return c.holders(ctx, dumpShared, name)
}

// DumpAllShared returns every shared lock that is held and who holds it, with
// the same reservations as DumpAll.
func (c *Client) DumpAllShared(ctx context.Context) (map[string][]string, error) {
	locks := make(map[string][]string)
	err := c.list(ctx, dumpShared, "", func(line string) error {
		name, holder, err := splitLast(line)
		locks[name] = append(locks[name], holder)
		return err
	})
	if err != nil {
		return nil, err
	}
	return locks, nil
}

// holders lists who holds one lock.
func (c *Client) holders(ctx context.Context, v *verb, name string) ([]string, error) {
	name, err := fold(name)
	if err != nil {
		return nil, err
	}
	var holders []string
	prefix := name + ": "
	err = c.list(ctx, v, name, func(line string) error {
		if name != "" && len(line) >= len(prefix) && line[:len(prefix)] == prefix {
			holders = append(holders, line[len(prefix):])
			return nil
		}
		// Either the server spells the name in its own way (see echoes), or
		// the name is empty: then every lock is listed, and those with another
		// name have to go.
		got, holder, err := splitLast(line)
		if err == nil && (name != "" || got == "") {
			holders = append(holders, strings.Clone(holder)) // and not all that was listed
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return holders, nil
}

// ask sends a request whose reply is one line, and returns its number.
func (c *Client) ask(ctx context.Context, v *verb, name string) (int64, error) {
	n, _, err := c.askText(ctx, v, name)
	return n, err
}

func (c *Client) askText(ctx context.Context, v *verb, name string) (n int64, text string, err error) {
	name, err = c.check(v, name)
	if err != nil {
		return 0, "", err
	}
	n, text, err = c.askOnce(ctx, v, name)
	if token, ok := c.opts.tokenAgain(ctx, err); ok {
		if _, _, failed := c.askOnce(ctx, auth, token); failed == nil {
			return c.askOnce(ctx, v, name)
		}
	}
	return n, text, err
}

func (c *Client) askOnce(ctx context.Context, v *verb, name string) (n int64, text string, err error) {
	call := c.newCall(v, name)
	if err := c.do(ctx, call); err != nil {
		return 0, "", err
	}
	n, text, err = call.n, call.text, call.err
	c.recycle(call)
	return n, text, err
}

// list sends a request whose reply is any number of lines, and passes them on
// when all are here. It stops at the first error and returns it.
func (c *Client) list(ctx context.Context, v *verb, name string, line func(string) error) error {
	chunks, err := c.askMany(ctx, v, name, nil)
	if err != nil {
		return err
	}
	if err := refused(chunks, v); err != nil {
		return err
	}
	for _, chunk := range chunks {
		// In one piece: short lines would each cost more than they hold.
		for l := range strings.Lines(string(chunk)) {
			if err := line(strings.TrimSuffix(l, "\n")); err != nil {
				return err
			}
		}
	}
	return nil
}

// askMany sends a request whose reply is any number of lines. It passes them on
// as they come, or returns them if there is nobody to pass them to.
func (c *Client) askMany(ctx context.Context, v *verb, name string, pass func([]byte) error) ([][]byte, error) {
	name, err := c.check(v, name)
	if err != nil {
		return nil, err
	}
	if dialect(c.dialect.Load()) == unknown {
		// The answer to an inspection tells, see dialectOf.
		if _, err := c.ask(ctx, inspect, rand.Text()); err != nil && !errors.Is(err, ErrNotAllowed) {
			return nil, err
		}
	}
	call := c.newCall(v, name)
	call.mark = c.mark()
	call.lines = newLines(c.opts.MaxReply, pass)
	if err := c.doMany(ctx, call); err != nil {
		return nil, err
	}
	chunks, err := call.lines.take()
	c.recycle(call)
	return chunks, err
}

// mark returns what marks the end of a reply of many lines.
func (c *Client) mark() string {
	if dialect(c.dialect.Load()) == pongs {
		return pongMark
	}
	return rand.Text() // 130 random bits
}

// check folds a name and refuses what must not be sent.
func (c *Client) check(v *verb, name string) (string, error) {
	name, err := fold(name)
	if err != nil {
		return "", err
	}
	if len(v.word)+len(" ")+len(name) > c.opts.MaxLine {
		return "", ErrLineTooLong
	}
	return name, nil
}
