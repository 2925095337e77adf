//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package client_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nylen/lockd/pkg/client"
)

// TestTokenPipe: what a pipe gave is kept, since it cannot be read again, and nobody
// waits for one into which nothing is written for longer than the context lasts.
func TestTokenPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(path, 0o600))
	token := client.TokenFile(path)
	now, cancel := context.WithCancel(context.Background())
	cancel()
	for range 3 {
		if got, err := token(now); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %q, %v from a pipe without a writer", got, err)
		}
	}
	must(t, os.WriteFile(path, []byte("abc\n"), 0)) // waits for a reader
	for range 3 {
		if got, err := token(within(t)); got != "abc" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}
