//go:build !race

package client_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/nylen/lockd/pkg/client"
)

// TestLockerAllocs: a lock costs one allocation, itself.
func TestLockerAllocs(t *testing.T) {
	// The server's are counted, too, where it is in this process, so this one
	// is scripted.
	l, accept := scriptedLocker(t, client.LockerOptions{})
	s := accept()
	go func() {
		var line, reply []byte
		for {
			var err error
			if line, err = s.r.ReadSlice('\n'); err != nil {
				return
			}
			reply = append(reply[:0], "1 9 Lock Get Success: a lock\n"...)
			if bytes.HasPrefix(line, []byte("1 r ")) {
				reply = append(reply[:0], "1 1 Lock Release Success: a lock\n"...)
			}
			if _, err := s.conn.Write(reply); err != nil {
				return
			}
		}
	}()
	ctx := within(t)
	n := testing.AllocsPerRun(200, func() {
		lock, err := l.TryAcquire(ctx, "a lock")
		if err != nil {
			t.Fatal(err)
		}
		if err := lock.Release(ctx); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations for a lock", n)
	}
}

// TestAllocs: an ordinary request costs no allocation, acquired or not.
func TestAllocs(t *testing.T) {
	ctx := within(t)
	for reply, want := range map[string]error{
		"1 Lock Get Success: a lock\n": nil,
		"0 Lock Get Failure: a lock\n": client.ErrNotAcquired,
	} {
		c := start(t, constantServer(t, reply))
		n := testing.AllocsPerRun(200, func() {
			if err := c.Get(ctx, "a lock"); !errors.Is(err, want) {
				t.Fatal(err)
			}
		})
		if n != 0 {
			t.Errorf("%v allocations for %q", n, reply)
		}
	}
}
