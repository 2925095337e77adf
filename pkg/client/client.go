package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Client is one connection to a lockd server and the one owner of the locks
// that were got through it. It is made by New, and all its methods may be
// called by many goroutines at once.
type Client struct {
	opts    Options
	targets targets
	target  target // of these, the one that has answered; set before the first turn is free

	// turn has a value in it while a request is on the wire, or while there is
	// no connection yet. The queue is made of the goroutines that wait to send
	// on it: the first to come is the first served, and one whose context ends
	// is gone from it.
	turn chan struct{}

	// transport is set before the first turn is free.
	transport transport

	// current is the request on the wire. The caller whose turn it is sets it;
	// the goroutine that reads clears it when the reply is complete, and then
	// ends the turn.
	current atomic.Pointer[call]

	// dialect is set by the goroutine that reads.
	dialect atomic.Uint32

	// held are the locks this client holds, as far as it was told, by the name
	// in the server's spelling. They belong to the goroutine that reads.
	held [spaces]map[string]struct{}

	used  sync.Pool // of *call
	watch watchdog

	// fits is what the server has told, see fit.go.
	fits fits

	// tried, if not nil, is told once what came of connecting: nil when the
	// server has replied for the first time, or why it never did. It is called
	// before Close returns, with no mutex held.
	tried    func(*Client, error)
	answered atomic.Bool // the server has replied, and to more than a name

	// note is what oldPool had it register last, behind its name.
	note string

	connected chan struct{}
	lost      chan struct{}
	stop      context.CancelFunc // ends the connecting
	ended     sync.WaitGroup     // the goroutine that connects and reads

	mu      sync.Mutex  // guards what follows
	conn    transport   // what to close; nil until connected
	err     error       // why lost is closed
	sendErr error       // the first write that failed
	timer   *time.Timer // to ask by itself; nil: it does not
}

// New returns a client that connects in the background. It may be used at
// once: requests wait until it is connected, and if that fails they return why.
// An error means that the options make no sense. The client has to be closed
// when it is no longer needed.
func New(opts Options) (*Client, error) { return newClient(opts, 0, nil) }

// newClient returns a client that asks every so often, even if nobody else does,
// and so is lost within the period and Options.ReadTimeout if the server falls
// silent.
func newClient(opts Options, period time.Duration, tried func(*Client, error)) (*Client, error) {
	opts, all, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{
		opts:      opts,
		targets:   all,
		turn:      make(chan struct{}, 1),
		connected: make(chan struct{}),
		lost:      make(chan struct{}),
		stop:      stop,
		fits:      fits{period: period},
		tried:     tried,
	}
	c.turn <- struct{}{} // until connected
	for i := range c.held {
		c.held[i] = make(map[string]struct{})
	}
	if opts.Token != nil {
		c.dialect.Store(uint32(pongs)) // or it is no server for this client
	}
	c.watch.timeout = opts.ReadTimeout
	c.watch.expired = func() { c.lose(c.silence()) }
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
// The channel closes at once when the connection ends. If the server or the
// network vanishes without a word, a Client that has acquired a lock notices before
// the server frees the locks of a client that it cannot reach: with the first lock,
// and before it tells of that, it asks for the server's --dead-peer-timeout; it asks
// for a sign of life every now and then, and is lost when the last request that was answered was sent three
// quarters of that time ago, or ReadTimeout if that is less. Servers that do not
// tell are given 35 seconds: there TCP's keep-alive notices, after about 14 seconds
// on connections that this package makes; with Options.Dial it is up to Dial. A
// request that is under way then is given Options.ReadTimeout from when it was
// sent, so choose that below 20 seconds for such a server. A negative ReadTimeout
// has nothing of this done.
//
// A process that was paused, or a network that let one direction pass, may
// still learn of it after the server. What must not be done twice whatever
// happens needs more than a lock.
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
func (c *Client) lose(cause error) { c.end(lost(cause)) }

func (c *Client) end(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.lost)
		if c.timer != nil {
			c.timer.Stop()
		}
	}
	t := c.conn
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
	if err := c.takeTurn(ctx); err != nil {
		c.recycle(call) // nobody has seen it
		return err
	}
	c.send(call)
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

// doMany is do for a reply of many lines. It passes them on as they come, if
// there is somebody to pass them to; else they are in the call.
func (c *Client) doMany(ctx context.Context, call *call) error {
	if err := c.takeTurn(ctx); err != nil {
		c.recycle(call) // nobody has seen it
		return err
	}
	lines := call.lines
	whole := false
	defer func() {
		if !whole && call.abandon() {
			lines.drop()
		}
	}()
	c.send(call)
	for !whole {
		select {
		case <-lines.some:
		case <-call.done:
			whole = true
		case <-ctx.Done():
			return ctx.Err()
		case <-c.lost:
			select {
			case <-call.done:
				whole = true
			default:
				return c.Err()
			}
		}
		if lines.pass == nil {
			continue
		}
		err := lines.passOn(lines.pass)
		if errors.Is(err, ErrReplyTooLong) {
			<-c.lost // which says so
			return c.Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeTurn waits in the queue. If it returns nil the caller has the turn and
// sends a request, whose reply ends it.
func (c *Client) takeTurn(ctx context.Context) error {
	select {
	case <-c.lost:
		return c.Err() // rather than the context's
	default:
	}
	select {
	case c.turn <- struct{}{}:
		if err := ctx.Err(); err != nil { // select takes any that is ready
			<-c.turn
			return err
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.lost:
		return c.Err()
	}
}

// send sends a request, by whoever has the turn. If that fails, the client is
// lost in a moment.
func (c *Client) send(call *call) {
	r := request{verb: call.verb.word, name: call.name, mark: call.mark, pad: dialect(c.dialect.Load()) == readsOne}
	c.fits.asks(&c.watch)
	c.current.Store(call) // from here on it is for the goroutine that reads
	if err := c.transport.send(r); err != nil {
		c.sendFailed(err)
	}
}

// sendFailed leaves it to the goroutine that reads to end the client, see
// grace.
func (c *Client) sendFailed(err error) {
	c.mu.Lock()
	if c.sendErr == nil {
		c.sendErr = err
	}
	c.mu.Unlock()
	c.transport.expireReads(time.Now().Add(grace))
}

// run connects, and then reads every line that the server sends, also while no
// request is under way, and so notices at once when the connection ends.
func (c *Client) run(ctx context.Context) {
	defer func() {
		if c.tried != nil && !c.answered.Load() {
			c.tried(c, c.Err())
		}
	}()
	t, to, err := c.opts.connectAny(ctx, c.targets, forClient)
	if err != nil {
		c.lose(err)
		return
	}
	c.target = to
	c.mu.Lock()
	closed := c.err != nil
	c.conn = t
	c.mu.Unlock()
	if closed {
		t.close()
		return
	}
	c.transport = t
	close(c.connected)
	if opts := c.opts; opts.Name != "" {
		c.send(c.newUnwatched(iam, registration(opts.Name, "", opts.MaxLine))) // in the first turn
	} else {
		<-c.turn
	}
	c.beatEvery(c.fits.period)

	err = c.readReplies(t)
	c.mu.Lock()
	if c.sendErr != nil && err != ErrTooManyConnections {
		err = c.sendErr
	}
	c.mu.Unlock()
	c.lose(err)
	t.close() // again, to wait for a pump that another goroutine is closing
}

// beatEvery makes the client ask by itself, if the period is not 0.
func (c *Client) beatEvery(period time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fits.period = period
	switch {
	case period == 0 || c.err != nil:
	case c.timer == nil:
		c.timer = time.AfterFunc(period, c.beat)
	default:
		c.timer.Reset(period)
	}
}

// beatNow has it ask now, and then as often as before.
func (c *Client) beatNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.timer != nil {
		c.timer.Reset(0)
	}
}

// beat asks for a sign of life, of which the watchdog takes care. If a request
// is under way, it does so already.
func (c *Client) beat() {
	select {
	case c.turn <- struct{}{}:
		v, name := inspect, rand.Text()
		if dialect(c.dialect.Load()) == pongs {
			v, name = ping, "" // it may not be allowed to inspect
		}
		c.send(c.newUnwatched(v, name))
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.timer.Reset(c.fits.period)
	}
}

func (c *Client) readReplies(t transport) error {
	// Who has the first lock hears of it when it is known what a holder has to fit:
	// until then the server may free it before the client gives it up.
	var granted *call
	var grantedUndo *verb
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
		if call.mark != "" && !isEnd(line, call.mark) {
			if call.verb == ask {
				c.fit(line)
			} else if !call.lines.add(line) {
				return tooLong(c.opts.MaxReply)
			}
			c.fits.goesOn(&c.watch)
			continue
		}
		var undo *verb
		name := call.name
		if call.mark == "" {
			r, err := parseReply(line, call.verb, name, call.verb.most)
			if err != nil {
				return err
			}
			if (call.verb == inspect || call.verb == inspectNamed) && r.n == 0 && c.dialect.Load() == uint32(unknown) {
				if d := dialectOf(t.endedCRLF(), r.err); d != readsAll || call.verb == inspect {
					c.dialect.Store(uint32(d))
				}
			}
			call.n, call.err = r.n, r.err
			if call.verb.yes == "" {
				call.text = string(r.rest)
			}
			undo = c.account(call, r)
		}
		late := c.fits.answered(&c.watch)
		if call.verb != iam && !c.answered.Load() {
			c.answered.Store(true)
			if c.tried != nil {
				c.tried(c, nil)
			}
		}
		c.current.Store(nil)
		if question := c.question(); question != nil {
			if granted == nil {
				granted, grantedUndo = call, undo
			}
			c.send(question) // in the same turn
			continue
		}
		if granted != nil {
			call, undo, name = granted, grantedUndo, granted.name
			granted = nil
		}
		if call.answer() {
			call.done <- struct{}{}
		} else if undo != nil {
			c.send(c.newUnwatched(undo, name)) // in the same turn
			continue
		}
		<-c.turn
		if late {
			c.beatNow()
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
	c.fits.due = true
	return call.verb.undo
}
