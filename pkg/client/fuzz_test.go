package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/wire"
)

// FuzzParseAnswer: whatever a line says, it is a refusal, nonsense, or a number
// that can be meant.
func FuzzParseAnswer(f *testing.F) {
	for _, line := range []string{
		"1 Lock Get Success: x", "9007199254740992 Lock Get Success: x", "0 Lock Get Canceled: x",
		"4294967295 Shared Lock Get Success: x", "7 Rate Allowed: x", "0 Rate Limited 5 ms: x",
		"0 Rate Limited 10000000000000 ms: x", "0 Rate Limited ", "0 Too Many Sessions", "1 ok", "0 ", "00 x",
	} {
		f.Add([]byte(line), int64(7))
	}
	verbs := []*verb{
		get, getWait, release, getShared, getSharedLimit, getSharedWait, releaseShared, takeRate, inspectRate, ping, cancel, bye,
	}
	f.Fuzz(func(t *testing.T, line []byte, limit int64) {
		for _, v := range verbs {
			most := v.most
			if most == 0 {
				most = limit
			}
			r, err := parseAnswer(line, v, "x", most)
			if r.err == errRateLimited {
				most = wire.MaxWait
			}
			switch {
			case err != nil:
				if !errors.Is(err, ErrProtocol) {
					t.Errorf("%q to %s: %v", line, v.word, err)
				}
			case r.n < 0 || r.n > most && r.n > 0:
				t.Errorf("%q to %s: %d", line, v.word, r.n)
			case r.n == 0 && r.err == nil && v.no == "":
				t.Errorf("%q to %s: a yes without a number", line, v.word)
			}
		}
	})
}

// FuzzLists: what is no list is an error.
func FuzzLists(f *testing.F) {
	f.Add("a: b")
	f.Add("0 disabled")
	f.Add(": : ")
	f.Fuzz(func(t *testing.T, line string) {
		for _, split := range []func(string) (string, string, error){splitFirst, splitLast} {
			a, b, err := split(line)
			if err == nil && a+": "+b != line {
				t.Errorf("%q: %q and %q", line, a, b)
			}
		}
		refused([][]byte{[]byte(line)}, dump)
	})
}

// FuzzMessages: lines come out of a WebSocket whatever its frames are, and are
// no longer than they may be.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\x81\x03a\nb"))
	f.Add([]byte("\x01\x01a\x89\x02hi\x80\x01b"))
	f.Add([]byte("\x88\x02\x03\xe8"))
	f.Add([]byte("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xffa\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		near, far := net.Pipe()
		far.Close() // the pongs go nowhere
		ws := &webSocket{conn: newPump(near, pumpRoom)}
		defer ws.conn.Close()
		lines := newLineReader(&messageReader{t: ws, r: bufio.NewReader(bytes.NewReader(in))}, forClient)
		for {
			line, err := lines.readLine()
			if err != nil {
				return
			}
			if len(line) == 0 || len(line) > len(in) {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
	})
}

// A babbler is a connection whose peer answers each request with the next piece
// of what it was given, and hangs up when there is no more. In that, MARK
// stands for the end mark.
type babbler struct {
	mu     sync.Mutex // guards what follows
	change sync.Cond
	greets bool     // the handshake is answered as it should be
	pieces []string // to come
	out    []byte   // to be read
	mark   string
	ended  bool
}

func newBabbler(in string, greets bool) *babbler {
	b := &babbler{greets: greets, pieces: strings.Split(in, "\x00")}
	b.change.L = &b.mu
	return b
}

func (b *babbler) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return 0, net.ErrClosed
	}
	for line := range strings.Lines(string(p)) {
		line = strings.TrimSuffix(line, "\n")
		mark, marks := strings.CutPrefix(line, "i ")
		if marks {
			b.mark = mark
		}
		switch {
		case b.greets && line == "ping":
			b.out = append(b.out, "1 pong\n"...)
		case b.greets && marks:
			b.out = append(b.out, "0 Lock Not Locked: "+mark+"\n"...)
		case b.greets && line == "hello 2":
			b.out = append(b.out, "2 lockd fuzz\n"...)
			b.greets = false
		case len(b.pieces) == 0:
			b.ended = true
		default:
			b.out = append(b.out, strings.ReplaceAll(b.pieces[0], "MARK", b.mark)...)
			b.pieces = b.pieces[1:]
		}
	}
	b.change.Broadcast()
	return len(p), nil
}

func (b *babbler) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.out) == 0 {
		if b.ended {
			return 0, io.EOF
		}
		b.change.Wait()
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

func (b *babbler) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.change.Broadcast()
	return nil
}

func (*babbler) LocalAddr() net.Addr              { return nil }
func (*babbler) RemoteAddr() net.Addr             { return nil }
func (*babbler) SetDeadline(time.Time) error      { return nil }
func (*babbler) SetReadDeadline(time.Time) error  { return nil }
func (*babbler) SetWriteDeadline(time.Time) error { return nil }

// dial is for Options: it connects once.
func (b *babbler) dial() func(context.Context) (net.Conn, error) {
	dialed := false
	return func(context.Context) (net.Conn, error) {
		if dialed {
			return nil, net.ErrClosed
		}
		dialed = true
		return b, nil
	}
}

// FuzzClient: whatever a server says, a Client returns, with what can be meant.
// The bubble fails if it does not, or leaves a goroutine behind.
func FuzzClient(f *testing.F) {
	for call, reply := range []string{
		"1 Lock Get Success: x\n\x001 Lock Release Success: x\n",
		"1 Lock Is Locked: x\n",
		"4294967295 Shared Lock Get Success: x\n",
		"3 Shared Lock Is Locked: x\n",
		"1 1.2.3.4:5 me\n",
		"1 ok\n",
		"0 Lock Not Locked: MARK\n\x00locks: 1\nlocks: 9223372036854775808\n\x000 Lock Not Locked: MARK\n",
		"0 Lock Not Locked: MARK\r\n\x00a: b\n\x000 Lock Not Locked: MARK\r\n",
		"0 Lock Not Locked: MARK\n\x00x: a\nx: b\n\x000 Lock Not Locked: MARK\n",
		"0 Lock Not Locked: MARK\n\x000 disabled\n\x000 Lock Not Locked: MARK\n",
	} {
		f.Add(byte(call), reply)
	}
	f.Add(byte(0), "0 Too Many Connections\n")
	f.Fuzz(func(t *testing.T, call byte, in string) {
		synctest.Test(t, func(t *testing.T) {
			c, err := New(Options{Dial: newBabbler(in, false).dial()})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			ctx := t.Context()
			n, least := 1, 1
			switch call % 10 {
			case 0:
				if c.Get(ctx, "x") == nil {
					err = c.Release(ctx, "x")
				}
			case 1:
				_, err = c.Inspect(ctx, "x")
			case 2:
				n, err = c.GetShared(ctx, "x")
			case 3:
				n, err = c.InspectShared(ctx, "x")
				least = 0
			case 4:
				_, err = c.Name(ctx)
			case 5:
				err = c.SetName(ctx, "x")
			case 6:
				_, err = c.Stats(ctx)
			case 7:
				_, err = c.DumpAll(ctx)
			case 8:
				_, err = c.DumpShared(ctx, "x")
			case 9:
				_, err = c.Clients(ctx, "")
			}
			if err == nil && (n < least || int64(n) > maxCount) {
				t.Errorf("%q: %d", in, n)
			}
		})
	})
}

// FuzzLocker is the same for a Locker, with and without a handshake that is in
// order.
func FuzzLocker(f *testing.F) {
	const greets = 128
	for call, reply := range []string{
		"1 7 Lock Get Success: x\n\x001 1 Lock Release Success: x\n",
		"1 9007199254740992 Lock Get Success: x\n",
		"1 4294967295 Shared Lock Get Success: x\n",
		"1 2 Shared Lock Get Success: x\n\x001 1 Shared Lock Release Success: x\n",
		"1 8 Rate Allowed: x\n",
		"1 0 Rate Limited 10000000000000 ms: x\n",
		"1 0 Rate Limited 0 ms: x\n\x001 1 Rate Allowed: x\n",
		"1 8 Rate Open: x\n",
	} {
		f.Add(greets|byte(call), reply)
	}
	f.Add(byte(greets|1), "1 0 Lock Get Timeout: x\n\x001 0 Lock Get Canceled: x\n\x001 0 Too Many Sessions\n")
	f.Add(byte(greets|6), "1 0 Rate Limited 10000000000000 ms: x\n")
	f.Add(byte(greets), "99999999999 1 ok\n")
	f.Add(byte(greets), "? 0 Invalid Request\n")
	f.Add(byte(0), "0 Lock Not Locked: MARK\n\x001 pong\n\x000 Lock Not Locked: MARK\n\x002 lockd x\n\x001 1 Lock Get Success: x\n")
	f.Add(byte(0), "0 Lock Not Locked: MARK\r\n")
	f.Add(byte(0), "0 Too Many Connections\n")
	f.Fuzz(func(t *testing.T, call byte, in string) {
		synctest.Test(t, func(t *testing.T) {
			l, err := NewLocker(LockerOptions{
				FailFast: true,
				Options:  Options{Dial: newBabbler(in, call&greets != 0).dial()},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			ctx := t.Context()
			var lock *Lock
			var d Decision
			rate := l.Limiter("x", 7, time.Second)
			switch call % 8 {
			case 0:
				lock, _ = l.TryAcquire(ctx, "x")
			case 1:
				lock, _ = l.Acquire(ctx, "x")
			case 2:
				lock, _ = l.TryAcquireShared(ctx, "x", 0)
			case 3:
				lock, _ = l.AcquireShared(ctx, "x", 3)
			case 4:
				d, _ = rate.AllowN(ctx, 2)
			case 5:
				d, _ = rate.Allow(ctx)
			case 6:
				rate.Wait(ctx)
			case 7:
				d.Open, _ = rate.Open(ctx)
			}
			if lock != nil {
				if lock.Token() > wire.MaxToken || lock.Count() < 1 || int64(lock.Count()) > maxCount {
					t.Errorf("%q: token %d, count %d", in, lock.Token(), lock.Count())
				}
				lock.Release(ctx)
			}
			if d.Open < 0 || d.Open > 7 || d.RetryAfter < 0 || d.RetryAfter > maxWait {
				t.Errorf("%q: %+v", in, d)
			}
		})
	})
}

// FuzzLosses: whatever a line is, it is read or refused, and a list of names is read as
// the server writes it.
func FuzzLosses(f *testing.F) {
	f.Add("a\t9\texclusive\theld\tkick\t1\t2\t3\tx\t-\t-\t0\t0\t-\t-\t-\t12\tx,\"y, z\",\"-\"\t-")
	f.Add("\t18446744073709551615\t\t\t\t18446744073709551615\t18446744073709551615\t18446744073709551615\t\t\t\t18446744073709551615\t9\t\t\t\t9\t\"\tuid=1")
	f.Fuzz(func(t *testing.T, line string) {
		l, err := parseLoss(line)
		if err == nil && (l.Ago < 0 || l.Lasted < 0 || l.Count < 0 || l.More < 0 || l.Times < 0 || l.Waiting < 0) {
			t.Errorf("%q: %+v", line, l)
		}
		names := strings.Split(line, "\t")
		var listed []string
		for _, n := range names {
			listed = append(listed, strconv.Quote(n))
		}
		if got := parseListed(strings.Join(listed, ",")); !slices.Equal(got, names) && utf8.ValidString(line) {
			t.Errorf("%q is read as %q", names, got)
		}
	})
}
