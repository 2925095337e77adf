package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Client is one connection to a lockd server and the one owner of the locks
// that were got through it. It is made by New, and all its methods may be
// called by many goroutines at once.
type Client struct {
	opts   Options
	target target

	// queue has no room: the requests that wait are the goroutines that wait
	// to send on it, first come first served, and one whose context ends is
	// gone from it.
	queue chan *call

	// current is the request on the wire. The writer sets it, the reader
	// clears it when the reply is complete and then tells the writer on
	// replied, with the request to send next if something has to be undone.
	current atomic.Pointer[call]
	replied chan *call

	// held are the locks this client holds, as far as it was told, by the name
	// in the server's spelling. Only the reader uses it.
	held [spaces]map[string]struct{}

	used  sync.Pool // of *call
	watch watchdog

	connected chan struct{}
	lost      chan struct{}
	stop      context.CancelFunc // ends the connecting
	ended     sync.WaitGroup     // the writer and the reader

	mu        sync.Mutex // guards what follows
	transport transport  // nil until connected
	err       error      // why lost is closed
	sendErr   error      // the write that failed, until the reader ends
}

// New returns a client that connects in the background. It may be used at
// once: requests wait until it is connected, and if that fails they return why.
// An error means that the options make no sense. The client has to be closed
// when it is no longer needed.
func New(opts Options) (*Client, error) {
	opts, to, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{
		opts:      opts,
		target:    to,
		queue:     make(chan *call),
		replied:   make(chan *call, 1),
		connected: make(chan struct{}),
		lost:      make(chan struct{}),
		stop:      stop,
	}
	for i := range c.held {
		c.held[i] = make(map[string]struct{})
	}
	c.watch.timeout = opts.ReadTimeout
	c.watch.expired = func() { c.lose(fmt.Errorf("%w: no reply for %v", ErrTimeout, opts.ReadTimeout)) }
	c.ended.Go(func() { c.run(ctx) })
	return c, nil
}

// Connected returns a channel that closes when the connection stands. Nobody
// has to wait for it; requests do so by themselves. If connecting fails it
// never closes, but the one of Lost does.
func (c *Client) Connected() <-chan struct{} { return c.connected }

// Lost returns a channel that closes when the connection, and every lock with
// it, is lost, or could not be made in the first place, or was closed. Err then
// tells why.
//
// The server may have freed the locks a moment before the channel closes: it
// notices first if the client's machine drops off the network. What must not
// be done twice whatever happens needs more than a lock.
func (c *Client) Lost() <-chan struct{} { return c.lost }

// Err returns nil as long as the client can be used, and then what its
// requests return: an error that is ErrLost, or ErrClosed after Close. The
// first reason stays.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection, and with it every lock that the client holds.
// Pending requests return ErrClosed. It returns when all of the client's
// goroutines have ended, and always nil; closing again does nothing.
func (c *Client) Close() error {
	c.end(ErrClosed)
	c.ended.Wait()
	return nil
}

// lose ends the client because of something that happened to it.
func (c *Client) lose(cause error) { c.end(fmt.Errorf("%w: %w", ErrLost, cause)) }

func (c *Client) end(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.lost)
	}
	t := c.transport
	c.mu.Unlock()
	if !first {
		return
	}
	c.stop()
	c.watch.stop()
	if t != nil {
		t.close()
	}
}

// do sends a request and waits for its reply. If it returns nil the reply is
// in the call, which the caller recycles.
func (c *Client) do(ctx context.Context, call *call) error {
	if err := c.queueUp(ctx, call); err != nil {
		c.recycle(call) // nobody has seen it
		return err
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		if call.abandon() {
			return ctx.Err()
		}
		<-call.done // it was answered at the same moment
	case <-c.lost:
		select {
		case <-call.done:
		default:
			return c.Err()
		}
	}
	return nil
}

func (c *Client) queueUp(ctx context.Context, call *call) error {
	// Of several ready channels select takes any; these have to come first.
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-c.lost:
		return c.Err()
	default:
	}
	select {
	case c.queue <- call:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.lost:
		return c.Err()
	}
}

// run connects and then is the writer: it sends the requests one by one.
func (c *Client) run(ctx context.Context) {
	t, err := c.opts.connect(ctx, c.target)
	if err != nil {
		c.lose(err)
		return
	}
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		t.close()
		return
	}
	c.transport = t
	c.mu.Unlock()
	close(c.connected)
	c.ended.Go(func() { c.read(t) })

	for {
		select {
		case <-c.lost:
			return
		case call := <-c.queue:
			if !call.abandoned() {
				c.exchange(t, call)
			}
		}
	}
}

// exchange sends a request, waits until it is answered, and then does the same
// with what has to be undone because of it.
func (c *Client) exchange(t transport, call *call) {
	if call.verb.many {
		call.mark = rand.Text() // 130 random bits
		if t.needsProbe() {
			c.exchange(t, c.newUnwatched(inspect, rand.Text()))
		}
	}
	for call != nil {
		word, name, mark := call.verb.word, call.name, call.mark
		c.watch.expect()
		c.current.Store(call) // the call is the reader's from here on
		if err := t.send(word, name, mark); err != nil {
			c.sendFailed(t, err)
			<-c.lost
			return
		}
		select {
		case call = <-c.replied:
		case <-c.lost:
			return
		}
	}
}

// sendFailed leaves it to the reader to tell why the connection ended, since
// the server's last line, or a better error, may still be there to read.
func (c *Client) sendFailed(t transport, err error) {
	const grace = time.Second
	c.mu.Lock()
	c.sendErr = err
	c.mu.Unlock()
	t.expireReads(time.Now().Add(grace))
}

// read is the reader: it takes every line that the server sends, also while
// no request is under way, and so notices at once when the connection ends.
func (c *Client) read(t transport) {
	err := c.readReplies(t)
	c.mu.Lock()
	if c.sendErr != nil && err != ErrTooManyConnections {
		err = c.sendErr
	}
	c.mu.Unlock()
	c.lose(err)
}

func (c *Client) readReplies(t transport) error {
	for first := true; ; first = false {
		line, err := t.readLine()
		if err != nil {
			return err
		}
		if first && string(line) == tooManyConnections {
			return ErrTooManyConnections
		}
		call := c.current.Load()
		if call == nil {
			return fmt.Errorf("%w: nothing was asked, but got %q", ErrProtocol, line[:min(len(line), 200)])
		}
		if call.verb.many && !isEnd(line, call.mark) {
			if !call.abandoned() {
				call.lines = append(call.lines, string(line))
			}
			c.watch.expect()
			continue
		}
		var undo *verb
		name := call.name
		if !call.verb.many {
			r, err := parseReply(line, call.verb, name)
			if err != nil {
				return err
			}
			if call.verb == inspect {
				t.probed()
			}
			call.n, call.err = r.n, r.err
			if call.verb.yes == "" {
				call.text = string(r.rest)
			}
			undo = c.account(call, r)
		}
		c.watch.met()
		c.current.Store(nil)
		if call.answer() {
			call.done <- struct{}{}
			undo = nil
		}
		if undo != nil {
			c.replied <- c.newUnwatched(undo, name)
		} else {
			c.replied <- nil
		}
	}
}

// account keeps the locks held up to date, and returns what undoes the call if
// it acquired a lock that was not held before.
func (c *Client) account(call *call, r reply) (undo *verb) {
	if call.verb.effect == none || r.rest == nil {
		return nil // not about a lock, or refused without an answer
	}
	held := c.held[call.verb.space]
	if call.verb.effect == releases || r.err != nil {
		delete(held, string(r.rest))
		return nil
	}
	if _, before := held[string(r.rest)]; before {
		return nil
	}
	key := call.name
	if string(r.rest) != key {
		key = string(r.rest)
	}
	held[key] = struct{}{}
	return call.verb.undo
}
