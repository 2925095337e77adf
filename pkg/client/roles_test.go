package client_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// overRoles runs a test over all transports of a server that knows the tokens ops,
// deploy and look, by their roles.
func overRoles(t *testing.T, f func(t *testing.T, opts client.Options)) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth")
	var lines strings.Builder
	for token, role := range map[string]string{"ops": "admin", "deploy": "lock:deploy/", "look": "read"} {
		fmt.Fprintf(&lines, "%s %s sha256:%x\n", token, role, sha256.Sum256([]byte(token)))
	}
	must(t, os.WriteFile(path, []byte(lines.String()), 0o600))
	overTransports(t, server.Options{AuthFile: path, AuthOn: []string{"tcp", "websocket", "tls", "wss", "unix"}}, f)
}

// TestRoles: a server's tokens are understood, with each kind of client.
func TestRoles(t *testing.T) {
	overRoles(t, func(t *testing.T, opts client.Options) {
		if opts.Dial != nil {
			t.Skip("nobody is asked who comes from the same program")
		}
		as := func(token string) client.Options {
			opts := opts
			opts.Token = tell(token)
			return opts
		}
		ctx := within(t)

		l := locker(t, client.LockerOptions{Options: as("deploy")})
		lock, err := l.Acquire(ctx, "deploy/web")
		must(t, err)
		defer lock.Release(ctx)
		_, err = l.Acquire(ctx, "other")
		mustBe(t, err, client.ErrNotAllowed)
		for _, err := range l.List(ctx, "") {
			mustBe(t, err, client.ErrNotAllowed)
		}
		entries, err := l.Look(ctx, "deploy/web")
		if err != nil || len(entries) != 1 {
			t.Errorf("%v, %v", entries, err)
		}

		for token, want := range map[string]error{"ops": nil, "look": nil, "deploy": client.ErrNotAllowed} {
			c := start(t, as(token))
			for range 2 {
				locks, err := c.DumpAll(ctx)
				if !errors.Is(err, want) || want == nil && (len(locks) != 1 || locks["deploy/web"] == "") {
					t.Errorf("%s: %v, %v, want %v", token, locks, err, want)
				}
			}
			entries, err := c.Look(ctx, "deploy/web")
			if err != nil || len(entries) != 1 {
				t.Errorf("%s: %v, %v", token, entries, err)
			}
		}
		mustBe(t, start(t, as("look")).Get(ctx, "x"), client.ErrNotAllowed)
		must(t, start(t, as("ops")).Get(ctx, "x"))

		mustBe(t, locker(t, client.LockerOptions{Options: as("nobody")}).Ready(ctx), client.ErrAuthFailed)
		c := start(t, as("nobody"))
		mustBeLost(t, c, c.Get(ctx, "x"), client.ErrAuthFailed)
		mustBe(t, locker(t, client.LockerOptions{Options: opts}).Ready(ctx), client.ErrNotAuthenticated)
		mustBe(t, start(t, opts).Get(ctx, "x"), client.ErrNotAuthenticated)
		_, err = start(t, opts).DumpAll(ctx)
		mustBe(t, err, client.ErrNotAuthenticated)
	})
}
