//go:build !race

package client_test

import (
	"errors"
	"testing"

	"github.com/nylen/lockd/pkg/client"
)

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
