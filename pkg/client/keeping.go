package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/kept"
	"github.com/nylen/lockd/internal/wire"
)

// A keeping is what a mux needs to outlive its connection, with a server that keeps
// for a while what the mux holds. The server knows the mux again by a secret, the KEY,
// which is in the memory of one process only, and is used for one mux only.
//
// When a connection is lost, the mux is down: all that was asked and not answered
// waits in its sessions, and so does what is asked meanwhile; nothing is lost. The
// next connection begins with the KEY. Then the mux says what it holds, asks again
// what was not answered, and says that this was all, see resume: the server lets go
// what was not named. So what was given up, or released, meanwhile needs no request of
// its own: it is not named.
//
// All that has an end, the lease: until then the mux may believe in what it holds,
// and not a moment longer.
type keeping struct {
	key       string
	blipsOnly bool // the server does not keep it over its own restart
	// In a cluster any node takes the mux up. They are told how many connections it has had,
	// this one counted: what comes late over an earlier one is not the mux's any more.
	everywhere  bool
	connections uint64
	granted     int64 // for how many milliseconds it is kept
	lease       *kept.Lease
	clock       func() time.Duration
	dial        func(context.Context, target) (transport, error)
	others      func() targets // where to go on if it cannot be reached where it was
	backoff     func() backoff
	timeout     time.Duration // of an attempt to come back
	news        *keepNews

	at target // where all that is held was claimed at last; for the goroutine that reads

	sent time.Duration // when session 0 asked last; guarded by the mux's mutex

	timer  *time.Timer // looks at the lease; guarded by the mux's mutex, as what follows
	cause  error       // why the mux is down
	failed error       // what came of the last attempt to come back
	since  time.Duration
	// Sessions whose calls were given up, and that may hold something until the server
	// has let go what was not named.
	forgotten []*session

	// Since the mux is back, until the server has said that all claims are made:
	recovers bool // it had forgotten all
	lost     int  // how many locks have not come back
}

// longestNap is the longest time for which nobody looks at the lease: timers stand
// still while the machine sleeps.
const longestNap = 500 * time.Millisecond

// errLapsed ends a mux whose time is up while it has a connection.
var errLapsed = errors.New("no request was answered for longer than the server keeps the locks: this process, or the server, stood still")

// greeted is what came of the beginning of a connection.
type greeted struct {
	old     bool
	told    limits
	asked   time.Time
	notices bool
	keeping *keeping
	missing []error
}

// keep asks the server to keep what is held without a connection, and begins protocol
// 2. With a server that does not, it begins as negotiate does.
//
// A server that keeps may have no room but for those that it keeps things for: so
// nothing may come before that but what anybody may ask, which is not so for the
// inspection with which negotiate begins. It comes only when the server is silent.
func (l *Locker) keep(ctx context.Context, t transport, to target) (g greeted, err error) {
	stop := context.AfterFunc(ctx, func() { t.close() })
	defer func() {
		if !stop() && ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	g.old, g.told, err = probe(t, l.opts.markAfter)
	if err != nil {
		return g, err
	}
	k := &keeping{
		clock: l.opts.clock, news: l.keepNews,
		dial:    func(ctx context.Context, to target) (transport, error) { return l.opts.connect(ctx, to, forMux) },
		others:  func() targets { return l.others(to) },
		backoff: func() backoff { return newBackoff(&l.opts) },
	}
	ask := kept.Ask(l.opts.Keep, l.opts.StopTime)
	if g.old || kept.Span(min(ask, g.told.maxKeep), l.opts.StopTime) <= 0 {
		g.missing = []error{ErrNoKeep}
		g.asked = time.Now()
		g.old, g.told, err = negotiate(ctx, t)
		return g, err
	}
	if err := helloAgain(t); err != nil {
		return g, err
	}
	g.notices = true
	g.asked, k.sent = time.Now(), k.clock()
	line, err := say(t, wire.Keep+" "+strconv.FormatInt(ask.Milliseconds(), 10))
	if err != nil {
		return g, err
	}
	ms, text, ok := number(line)
	if !ok {
		return g, fmt.Errorf("%w to %q", ErrProtocol, wire.Keep) // the KEY may be in it
	}
	switch {
	case ms == 0:
		why := refusal(line, &verb{word: wire.Keep})
		if errors.Is(why, ErrNotAuthenticated) || errors.Is(why, ErrShuttingDown) {
			return g, why
		}
		g.missing = []error{fmt.Errorf("%w: %w", ErrNoKeep, why)}
		return g, nil
	case hasPrefix(text, wire.KeptEverywhere):
		k.key, k.everywhere, k.connections, k.granted = string(text[len(wire.KeptEverywhere):]), true, 1, ms
	case hasPrefix(text, wire.Kept):
		k.key = string(text[len(wire.Kept):])
	case hasPrefix(text, wire.KeptBlipsOnly):
		k.key, k.blipsOnly = string(text[len(wire.KeptBlipsOnly):]), true
		g.missing = append(g.missing, ErrBlipsOnly)
	}
	granted := time.Duration(ms) * time.Millisecond
	span := kept.Span(granted, l.opts.StopTime)
	if len(k.key) != wire.KeyDigits || ms > wire.MaxWait || span <= 0 {
		return g, fmt.Errorf("%w to %q", ErrProtocol, wire.Keep)
	}
	if granted < ask {
		g.missing = append(g.missing, fmt.Errorf("%w: %v, not %v", ErrShortKeep, span, l.opts.Keep))
	}
	k.lease = kept.New(granted, l.opts.StopTime, k.sent)
	if k.timeout = span / 3; l.opts.ConnectTimeout > 0 {
		k.timeout = min(k.timeout, l.opts.ConnectTimeout)
	}
	g.keeping = k
	return g, nil
}

// probe asks for the server's limits. It is old if it is silent to that, and knows no
// ping.
func probe(t transport, markAfter time.Duration) (old bool, told limits, err error) {
	for _, word := range []string{wire.Ping, wire.Limits} {
		if err := t.send(request{verb: word}); err != nil {
			return false, told, err
		}
	}
	const mark = "lockd client"
	silence := time.AfterFunc(markAfter, func() { t.send(request{verb: inspect.word, name: mark}) }) // if that fails, so does reading
	defer silence.Stop()
	line, err := t.readLine()
	switch {
	case err != nil:
		return false, told, err
	case string(line) == tooManyConnections:
		return false, told, ErrTooManyConnections
	case isEnd(line, mark):
		return true, told, nil
	}
	if r, err := parseReply(line, ping, "", ping.most); err != nil {
		return false, told, err
	} else if r.err != nil {
		return false, told, r.err
	}
	if line, err = t.readLine(); err != nil {
		return false, told, err
	}
	if !hasPrefix(line, "1 "+wire.DeadPeer) {
		// One that does not know its limits; and the answer to the inspection.
		if silence.Stop() {
			return false, told, notReply(line, ask)
		}
		return false, told, nil
	}
	told = parseLimits(line[len("1 "):])
	if !silence.Stop() {
		_, err = t.readLine() // the answer to the inspection, whatever it is
	}
	return false, told, err
}

// helloAgain begins protocol 2, with a server that is known to have it and to tell what
// was not asked.
func helloAgain(t transport) error {
	if err := t.send(request{verb: hello.word, name: "2 " + wire.Notices}); err != nil {
		return err
	}
	line, err := t.readLine()
	switch {
	case err != nil:
		return err
	case string(line) == tooManyConnections:
		return ErrTooManyConnections
	case !hasPrefix(line, wire.Hello2):
		return fmt.Errorf("%w to %q: %q", ErrProtocol, hello.word, line[:min(len(line), 200)])
	}
	return nil
}

// say asks something by session 0, on a connection that nobody else uses yet, and
// returns the answer without the session's number.
func say(t transport, request string) ([]byte, error) {
	if err := t.sendLines([]byte("0 " + request + "\n")); err != nil {
		return nil, err
	}
	return hear(t)
}

// hear returns the next line for session 0, without its number.
func hear(t transport) ([]byte, error) {
	for {
		line, err := t.readLine()
		if err != nil {
			return nil, err
		}
		if string(line) == tooManyConnections {
			return nil, ErrTooManyConnections
		}
		n, rest, ok := number(line)
		if !ok {
			return nil, fmt.Errorf("%w to the first request", ErrProtocol) // which may have been the KEY
		}
		if hasPrefix(rest, wire.Notice) {
			continue
		}
		if n != 0 {
			return nil, fmt.Errorf("%w to the first request", ErrProtocol)
		}
		return rest, nil
	}
}

// resumed is the answer to a KEY.
type resumed struct {
	forgotten bool          // the server knows nothing but the KEY, and takes claims
	left      time.Duration // for so long
	sent      time.Duration // when it was asked
}

// resume makes a connection and shows the KEY. ErrForgotten means that there is nothing
// to be had any more.
func (k *keeping) resume(ctx context.Context, to target) (_ transport, r resumed, err error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	t, err := k.dial(ctx, to)
	if err != nil {
		return nil, r, err
	}
	stop := context.AfterFunc(ctx, func() { t.close() })
	defer func() {
		if !stop() && ctx.Err() != nil {
			err = fmt.Errorf("%w: no answer after %v", ErrTimeout, k.timeout)
		}
		if err != nil {
			t.close()
		}
	}()
	if err := helloAgain(t); err != nil {
		return nil, r, err
	}
	if r.sent = k.clock(); k.lease.Expired(r.sent) {
		return nil, r, errLapsed
	}
	request := wire.Resume + " " + k.key
	if k.everywhere {
		k.connections++
		request = fmt.Sprint(request, " ", k.connections, " ", k.granted)
	}
	line, err := say(t, request)
	if err != nil {
		return nil, r, err
	}
	n, text, ok := number(line)
	switch {
	case ok && n > 0 && string(text) == wire.Resumed+k.key:
		return t, r, nil
	case ok && n == 0 && hasPrefix(text, wire.ClaimsOpen):
		ms, rest, ok := cutNumber(text[len(wire.ClaimsOpen):])
		if !ok || ms > wire.MaxWait || string(rest) != ": "+k.key {
			return nil, r, fmt.Errorf("%w to %q", ErrProtocol, wire.Resume)
		}
		r.forgotten, r.left = true, time.Duration(ms)*time.Millisecond
		return t, r, nil
	case ok && n == 0 && (hasPrefix(text, wire.UnknownKey) || hasPrefix(text, wire.InvalidCommand) || string(line)+"\n" == wire.KeepDisabled):
		return nil, r, ErrForgotten
	case ok && n == 0 && !hasPrefix(text, wire.Resumed):
		return nil, r, refusal(line, &verb{word: wire.Resume})
	}
	return nil, r, fmt.Errorf("%w to %q", ErrProtocol, wire.Resume)
}

// cutNumber cuts the number in front of a text.
func cutNumber(text []byte) (n int64, rest []byte, ok bool) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(string(text[:i]), 10, 64)
	return n, text[i:], err == nil
}

// isNobody tells whether connecting has failed because there is no server.
func isNobody(err error) bool {
	const onWindows = syscall.Errno(10061)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, onWindows) || errors.Is(err, fs.ErrNotExist)
}
