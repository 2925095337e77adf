package client

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/nylen/lockd/internal/wire"
)

// Whoever finds a lock taken wants to know by whom. So clients register a name,
// which the server shows, and for each lock a note may follow it.

const (
	maxName       = 255 // of Options.Name, in bytes
	maxRegistered = 512 // of a name and a note
	maxHost       = 100
	maxProgram    = 100
)

// ProcessName returns a name for this process that is good to be shown to
// others: HOST:PROGRAM:PID, the machine's name, the program's file and the
// process's number. A Locker registers it by default. It tells nothing of the
// program's arguments or its environment.
func ProcessName() string { return processName() }

var processName = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	program := "?"
	if len(os.Args) > 0 {
		program = strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	}
	return fmt.Sprintf("%s:%s:%d", wire.ShortName(host, maxHost), wire.ShortName(program, maxProgram), os.Getpid())
})

// WithNote returns a context with a note, such as "order 17": locks that a Locker
// acquires with it are shown to be held by the Locker's name, a blank and the note,
// and so are its waits for them. Whatever else the Locker holds is shown without
// it. Do and its kind take it, too; a Client does not. A note costs two short lines
// more on the wire, for which nobody waits; only a server that speaks protocol 1 is
// waited for once more.
//
// Everybody who may look at the server's locks can read a note, so it is no place
// for secrets. Line breaks and runs of blanks in it become one blank; what makes
// the whole longer than 512 bytes is cut off. The empty note takes another one
// back.
func WithNote(ctx context.Context, note string) context.Context {
	return context.WithValue(ctx, noteKey{}, wire.ShortName(note, maxRegistered))
}

type noteKey struct{}

func noteOf(ctx context.Context) string {
	note, _ := ctx.Value(noteKey{}).(string)
	return note
}

// registration is what to register for somebody with a name and a note, either of
// which may be missing.
func registration(name, note string, maxLine int) string {
	const before = len("4294967295 " + wire.IAm + " ")
	return wire.ShortName(name+" "+note, min(maxRegistered, maxLine-before))
}
