package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
)

// A Conn is a bare connection: requests go out as they are, and what comes back
// is the caller's to understand. It is for programs that show people the
// protocol, or pass it on; those that need locks have a Client or a Locker.
//
// Its methods may be called by two goroutines at once, one that sends and one
// that reads; Close by any.
type Conn struct {
	t        transport
	to       target
	protocol int
	lossy    bool // it loses what is sent behind a request, see dialect
	pings    bool // it knows `ping`
}

// Dial connects to the target of the options and finds out which protocol the
// server speaks. From then on the connection speaks that, but none newer than
// newest, which is 1 or 2. Of the options it uses Target, TLS, Token, Dial and
// ConnectTimeout, which is the bound for all of this. A server that asks for a token
// and gets none is no failure: whoever has the Conn may present one.
func Dial(ctx context.Context, opts Options, newest int) (*Conn, error) {
	opts, all, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	return reach(ctx, all.order(target{}), func(ctx context.Context, to target) (*Conn, error) {
		return dial(ctx, opts, to, newest)
	}, func(late *Conn) { late.Close() })
}

func dial(ctx context.Context, opts Options, to target, newest int) (*Conn, error) {
	patience := opts.ConnectTimeout
	if patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	t, err := opts.connect(ctx, to, forMux)
	if err != nil {
		return nil, err
	}
	old, _, err := handshake(ctx, t, newest > 1, nil) // who is not known yet may still say so
	if err != nil {
		t.close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: no reply within %v", ErrTimeout, patience)
		}
		return nil, unreachable{err}
	}
	c := &Conn{t: t, to: to, protocol: 2, pings: !old}
	if old || newest < 2 {
		c.protocol = 1
	}
	// A WebSocket keeps requests apart.
	c.lossy = old && to.url == nil && t.endedCRLF()
	return c, nil
}

// Connect connects to the target of the options and says nothing: what is spoken over the
// connection is the caller's business. It uses Target, which is no WebSocket, TLS, Dial
// and ConnectTimeout. Within TLS the handshake is over when it returns.
func Connect(ctx context.Context, opts Options) (net.Conn, error) {
	opts, all, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(all, func(to target) bool { return to.url != nil }) {
		return nil, errors.New("lockd: a WebSocket is no bare connection")
	}
	return reach(ctx, all.order(target{}), func(ctx context.Context, to target) (net.Conn, error) {
		return opts.bare(ctx, to)
	}, func(late net.Conn) { late.Close() })
}

func (o *Options) bare(ctx context.Context, to target) (net.Conn, error) {
	if o.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, o.ConnectTimeout)
		defer cancel()
	}
	conn, err := o.dialer(to)(ctx)
	if err == nil && to.secure {
		conn, err = o.secured(ctx, conn, to)
	}
	if err != nil {
		return nil, unreachable{err}
	}
	return conn, nil
}

// Target returns which of the targets has answered, if there were several.
func (c *Conn) Target() string { return c.to.String() }

// Protocol returns which one the connection speaks: 1 or 2.
func (c *Conn) Protocol() int { return c.protocol }

// Pipelines tells whether a request may be sent before the reply to the one in
// front of it is here. Of glockd, it may not.
func (c *Conn) Pipelines() bool { return !c.lossy }

// Send sends a request, a line without its end. In protocol 2 the number of its
// session is part of it. It is an ErrLineTooLong if the server would take such a
// line for several.
func (c *Conn) Send(request string) error {
	if err := c.check(request); err != nil {
		return err
	}
	if c.pings {
		return c.t.sendLines([]byte(request + "\n"))
	}
	return c.t.send(split(request))
}

// SendMarked is Send for a connection that speaks protocol 1, where a reply may
// have any number of lines, even none: it sends another request at once behind
// the first, and returns how to tell the line that answers it. What comes before
// that line is the reply. It is to be asked about each line, in order.
func (c *Conn) SendMarked(request string) (isMark func(line []byte) bool, err error) {
	if err := c.check(request); err != nil {
		return nil, err
	}
	r := split(request)
	if !c.pings {
		r.mark, r.pad = rand.Text(), c.lossy
		return func(line []byte) bool { return isEnd(line, r.mark) }, c.t.send(r)
	}
	// Anybody may ask for a pong, whatever else a client may do, and no line of
	// a list looks like it.
	words := strings.Fields(request)
	own := len(words) > 0 && words[0] == ping.word
	isMark = func(line []byte) bool {
		is := string(line) == "1 "+pongText
		if own && is {
			own, is = false, false
		}
		return is
	}
	return isMark, c.t.sendLines([]byte(request + "\n" + ping.word + "\n"))
}

// split makes a request of a line as it is.
func split(line string) request {
	verb, name, _ := strings.Cut(line, " ")
	return request{verb: verb, name: name}
}

// check refuses what would be several requests.
func (c *Conn) check(request string) error {
	switch {
	case strings.Contains(request, "\n"):
		return ErrBadName
	case !c.pings && len(request) > defaultMaxLine:
		return ErrLineTooLong
	}
	return nil
}

// Read returns the next line, without its end, or a part of it if it is longer
// than 64 KiB; end tells whether it is the last one. It is good until the next
// call. There are no empty lines.
func (c *Conn) Read() (part []byte, end bool, err error) { return c.t.readPart() }

// Close ends the connection, and so gives back whatever it holds.
func (c *Conn) Close() error { return c.t.close() }
