package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/nylen/lockd/internal/size"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// memory is a bound on it: a size, or off.
type memory int64

// Decode implements kong.MapperValue.
func (m *memory) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	switch {
	case err != nil:
		return err
	case text == "":
		return errEmpty
	case text == "off":
		*m = server.Unbounded
		return nil
	}
	n, err := size.Parse(text)
	if err == nil && n < server.LeastMemory { // 0 would be the default
		err = fmt.Errorf("must be at least %s, or off, not %q", size.Format(server.LeastMemory), text)
	}
	*m = memory(n)
	return err
}

// programBytes is what the program itself takes of the process's memory, of which the
// garbage collector knows nothing.
const programBytes = 16 << 20

// limitHeap has the garbage collector keep the heap below the bound on the
// process's memory, which has other parts than the heap. What clients can have it
// grow to is so much less that the collector has room to work in, and it begins early,
// since it does not keep up at once with clients that come in a crowd. Whoever sets
// GOMEMLIMIT knows better.
func limitHeap(process int64) {
	if process > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(process - programBytes - process/8)
	}
}
