// Package auth is the file that says who may do what: it is read, looked up by
// what clients show, and changed by `lockd token`. A line is
//
//	NAME ROLE[:PREFIX] HOW    # and a comment
//
// HOW is sha256:HEX, the hash of a token; cert, a client certificate with that
// name; or uid:N, the user of a process at the other end of a unix socket. There
// are no secrets in the file.
//
// Its invariant: what is looked up is always one whole file that was right. One
// that is not changes nothing. It knows nothing of sockets and of commands; what
// a role may is the business of internal/session, and that a file is read again
// when it changes that of whoever calls Load.
package auth

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/nylen/lockd/internal/lockfile"
	"github.com/nylen/lockd/internal/session"
)

// A File is a file that can be looked up in, once it was loaded. Any goroutine
// may; one at a time may load it.
type File struct {
	path  string
	table atomic.Pointer[table]
}

// A table has the access of each proof.
//
// To find a token by its hash takes a time that depends on the hash, which whoever
// guesses knows; but not on how much of the token is right, as of two tokens that
// differ in a bit the hashes have nothing in common. So time tells nothing that
// helps to guess, and no comparison has to take the same time always.
type table struct {
	access       map[Proof]*session.Access
	entries      []Entry
	othersToo    bool // can write to the file
	certs, users bool // there are such lines
}

// NewFile returns the file at a path, which is not loaded yet.
func NewFile(path string) *File { return &File{path: path} }

// Load reads the file, and returns what is wrong with it; then all stays as it
// was. Else what has changed counts from now on, also for those who are there:
// what they have is replaced. What has stayed the same is the very same.
func (f *File) Load() error {
	text, mode, err := read(f.path)
	if err != nil {
		return err
	}
	entries, err := parse(f.path, text)
	if err != nil {
		return err
	}
	t := &table{access: make(map[Proof]*session.Access), entries: entries}
	t.othersToo = runtime.GOOS != "windows" && mode&0o002 != 0 // Windows has no such bit
	old := f.table.Load()
	if old == nil {
		old = new(table)
	}
	replaced := make(map[*session.Access]*session.Access)
	for _, e := range entries {
		now := &session.Access{Name: e.Name, Role: e.Role, Prefix: e.Prefix}
		if before := old.access[e.Proof]; before != nil {
			if before.Name == e.Name && before.Role == e.Role && before.Prefix == e.Prefix {
				now = before
			} else {
				replaced[before] = now
			}
		}
		t.access[e.Proof] = now
		t.certs = t.certs || e.Proof.kind == byCert
		t.users = t.users || e.Proof.kind == byUID
	}
	f.table.Store(t)
	for before, now := range replaced {
		before.Replace(now)
	}
	for proof, before := range old.access {
		if t.access[proof] == nil {
			before.Replace(nil)
		}
	}
	return nil
}

// Token implements session.Authority, and so do Cert and UID.
func (f *File) Token(token []byte) *session.Access {
	return f.table.Load().access[OfToken(token)]
}

// Cert returns the access of whoever has a certificate with a name.
func (f *File) Cert(name string) *session.Access {
	return f.table.Load().access[Proof{kind: byCert, cert: name}]
}

// UID returns the access of a user.
func (f *File) UID(uid uint32) *session.Access {
	return f.table.Load().access[Proof{kind: byUID, uid: uid}]
}

// Certs and Users tell whether there are lines that know clients so.
func (f *File) Certs() bool { return f.table.Load().certs }

// Users is the same for users.
func (f *File) Users() bool { return f.table.Load().users }

// Warnings is what is not wrong with the file, but most likely not meant.
func (f *File) Warnings() (all []string) {
	t := f.table.Load()
	if t.othersToo {
		all = append(all, "every user of this machine can write to the auth file, and so let anybody in: chmod o-w "+f.path)
	}
	for _, e := range t.entries {
		if e.Proof.kind == byUID && e.Proof.uid == overflowUID && runtime.GOOS == "linux" {
			all = append(all, fmt.Sprintf("line %d of the auth file: uid:%d is what Linux says of every user that a container does not know, and lets all of them in", e.Line, overflowUID))
		}
	}
	if len(t.entries) == 0 {
		all = append(all, "the auth file lets nobody in: lockd token add makes a line for it")
	}
	return all
}

// overflowUID is what Linux says for users that a user namespace does not know.
const overflowUID = 65534

// largest bounds the file: some ten thousand lines.
const largest = 4 << 20

func read(path string) (text []byte, mode fs.FileMode, err error) {
	// Of a pipe the second look would find nothing, or wait for ever.
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		return nil, 0, fmt.Errorf("the auth file %s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the auth file %s: %w", path, lockfile.Bare(err))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the auth file %s: %w", path, lockfile.Bare(err))
	}
	defer f.Close()
	if info, err = f.Stat(); err == nil {
		text, err = io.ReadAll(io.LimitReader(f, largest+1))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the auth file %s: %w", path, lockfile.Bare(err))
	}
	if len(text) > largest {
		return nil, 0, fmt.Errorf("the auth file %s is larger than %d MiB", path, largest>>20)
	}
	return text, info.Mode(), nil
}
