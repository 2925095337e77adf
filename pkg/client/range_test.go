package client_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// mostHolders is the largest count that a client takes.
const mostHolders = int64(min(4294967294, math.MaxInt))

// TestLockerNumbers: a number that no server can mean is no reply. At the
// bounds it is one.
func TestLockerNumbers(t *testing.T) {
	const day = 86_400_000
	lock := func(lock *client.Lock, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return fmt.Sprint(lock.Token(), lock.Count()), nil
	}
	try := func(l *client.Locker) (string, error) { return lock(l.TryAcquire(context.Background(), "x")) }
	wait := func(l *client.Locker) (string, error) { return lock(l.Acquire(context.Background(), "x")) }
	share := func(l *client.Locker) (string, error) { return lock(l.TryAcquireShared(context.Background(), "x", 0)) }
	limited := func(l *client.Locker) (string, error) { return lock(l.TryAcquireShared(context.Background(), "x", 9)) }
	waitShared := func(l *client.Locker) (string, error) { return lock(l.AcquireShared(context.Background(), "x", 9)) }
	allow := func(l *client.Locker) (string, error) {
		d, err := l.Limiter("x", 7, time.Second).AllowN(context.Background(), 2)
		return fmt.Sprint(d.Allowed, d.Open, int64(d.RetryAfter)), err
	}
	open := func(l *client.Locker) (string, error) {
		n, err := l.Limiter("x", 7, time.Second).Open(context.Background())
		return fmt.Sprint(n), err
	}
	waitRate := func(l *client.Locker) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		return "", l.Limiter("x", 7, time.Second).Wait(ctx)
	}
	for _, c := range []struct {
		call  func(*client.Locker) (string, error)
		reply string
		want  string // empty: the connection is given up
	}{
		{try, "9007199254740991 Lock Get Success: x", "9007199254740991 1"},
		{try, "9007199254740992 Lock Get Success: x", ""},
		{wait, "9007199254740991 Lock Get Success: x", "9007199254740991 1"},
		{wait, "9007199254740992 Lock Get Success: x", ""},
		{share, fmt.Sprint(mostHolders, " Shared Lock Get Success: x"), fmt.Sprint("0 ", mostHolders)},
		{share, fmt.Sprint(mostHolders+1, " Shared Lock Get Success: x"), ""},
		{limited, fmt.Sprint(mostHolders+1, " Shared Lock Get Success: x"), ""},
		{waitShared, fmt.Sprint(mostHolders+1, " Shared Lock Get Success: x"), ""},
		{allow, "7 Rate Allowed: x", "true 7 0"},
		{allow, "8 Rate Allowed: x", ""},
		{allow, fmt.Sprint("0 Rate Limited ", day, " ms: x"), fmt.Sprint("false 0 ", int64(24*time.Hour))},
		{allow, fmt.Sprint("0 Rate Limited ", day+1, " ms: x"), ""},
		{allow, "0 Rate Limited 10000000000000 ms: x", ""},
		{waitRate, "0 Rate Limited 10000000000000 ms: x", ""}, // too much for a time.Duration
		{open, "0 Rate Open: x", "0"},
		{open, "7 Rate Open: x", "7"},
		{open, "8 Rate Open: x", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			l, accept := pipedLocker(t, client.LockerOptions{FailFast: true})
			s := accept()
			must(t, l.Ready(t.Context()))
			go func() {
				s.r.ReadString('\n')
				s.reply("1 " + c.reply + "\n")
				s.r.ReadString('\n') // until the connection ends
			}()
			got, err := c.call(l)
			if c.want == "" {
				mustBe(t, err, client.ErrProtocol)
				mustBe(t, err, client.ErrLost)
			} else if got != c.want || err != nil {
				t.Errorf("%q: got %q, %v", c.reply, got, err)
			}
		})
	}
}

// TestClientNumbers is the same for a Client.
func TestClientNumbers(t *testing.T) {
	for _, c := range []struct {
		call  func(context.Context, *client.Client) (int, error)
		reply string
		want  int // 0: the connection is given up
	}{
		{getShared, fmt.Sprint(mostHolders, " Shared Lock Get Success: x"), int(mostHolders)},
		{getShared, fmt.Sprint(mostHolders+1, " Shared Lock Get Success: x"), 0},
		{inspectShared, fmt.Sprint(mostHolders, " Shared Lock Is Locked: x"), int(mostHolders)},
		{inspectShared, fmt.Sprint(mostHolders+1, " Shared Lock Is Locked: x"), 0},
		{func(ctx context.Context, c *client.Client) (int, error) { return 0, c.Release(ctx, "x") }, "2 Lock Release Success: x", 0},
		{func(ctx context.Context, c *client.Client) (int, error) { return 0, c.SetName(ctx, "x") }, "2 ok", 0},
	} {
		cl, s := scripted(t, client.Options{})
		go func() {
			s.r.ReadString('\n')
			s.reply(c.reply + "\n")
		}()
		n, err := c.call(within(t), cl)
		if c.want == 0 && err != nil {
			mustBeLost(t, cl, err, client.ErrProtocol)
		} else if n != c.want || err != nil {
			t.Errorf("%q: got %d, %v", c.reply, n, err)
		}
	}
}

func getShared(ctx context.Context, c *client.Client) (int, error) { return c.GetShared(ctx, "x") }

func inspectShared(ctx context.Context, c *client.Client) (int, error) {
	return c.InspectShared(ctx, "x")
}

// TestLimiterNoPause: a server that says that units are open at once, and has
// none, is not asked over and over.
func TestLimiterNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		s := accept()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		asked := 0
		go func() {
			for {
				if _, err := s.r.ReadString('\n'); err != nil {
					return
				}
				asked++
				s.conn.Write([]byte("1 0 Rate Limited 0 ms: x\n"))
			}
		}()
		mustBe(t, l.Limiter("x", 1, time.Second).Wait(ctx), context.DeadlineExceeded)
		if asked > 1000 {
			t.Errorf("asked %d times in a second", asked)
		}
		l.Close()
	})
}
