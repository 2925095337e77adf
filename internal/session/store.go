package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A KeyHash is what is kept of a KEY: who reads the memory of a server, or its state
// file, cannot resume with it.
type KeyHash [sha256.Size]byte

// A Store keeps what has to outlive the server's process. Its methods return at once;
// done is called once, on any goroutine, when that is durable, or has failed. It may be
// nil, if nobody needs to know.
type Store interface {
	// Keep notes a KEY and for how long it is kept, in milliseconds.
	Keep(key KeyHash, ms uint64, done func(error))
	// Forget forgets one.
	Forget(key KeyHash, done func(error))
	// Raise has all later servers begin with fencing tokens from floor on.
	Raise(floor uint64, done func(error))
	// Recovered notes that all that a server before this one knew has been claimed,
	// or is free.
	Recovered(done func(error))
}

// A promptStore is a Store whose disk may hang, as one over a network does: what is not
// durable in storeMost has failed, and what becomes so after that changes nothing.
type promptStore struct{ Store }

const storeMost = 10 * time.Second

var errHangs = errors.New("the disk does not answer")

func (p promptStore) Keep(key KeyHash, ms uint64, done func(error)) {
	prompt(done, func(done func(error)) { p.Store.Keep(key, ms, done) }, func() { p.Store.Forget(key, nil) })
}

func (p promptStore) Forget(key KeyHash, done func(error)) {
	prompt(done, func(done func(error)) { p.Store.Forget(key, done) }, nil)
}

func (p promptStore) Raise(floor uint64, done func(error)) {
	prompt(done, func(done func(error)) { p.Store.Raise(floor, done) }, nil)
}

func (p promptStore) Recovered(done func(error)) { prompt(done, p.Store.Recovered, nil) }

// prompt has done called in time, and undo if what was asked for is done all the same,
// when its asker has been told that it is not; nil: nothing is to be undone.
func prompt(done func(error), ask func(done func(error)), undo func()) {
	if done == nil {
		ask(nil)
		return
	}
	var told atomic.Bool
	timer := time.AfterFunc(storeMost, func() {
		if told.CompareAndSwap(false, true) {
			done(errHangs)
		}
	})
	ask(func(err error) {
		timer.Stop()
		if told.CompareAndSwap(false, true) {
			done(err)
		} else if err == nil && undo != nil {
			undo()
		}
	})
}

// newKey makes a KEY: nobody guesses one.
func newKey() string {
	var key [wire.KeyDigits / 2]byte
	rand.Read(key[:])
	return hex.EncodeToString(key[:])
}

// hashOf returns the hash of a KEY, if it may be one, with who has it: somebody else
// who has seen it has another one, also after a restart. Nil is who has not said so.
func hashOf(key []byte, who *Access) (h KeyHash, ok bool) {
	var bytes [wire.KeyDigits / 2]byte
	if len(key) != wire.KeyDigits {
		return h, false
	}
	if _, err := hex.Decode(bytes[:], key); err != nil {
		return h, false
	}
	text := bytes[:]
	if who != nil {
		text = append(text, who.Name...)
	}
	return sha256.Sum256(text), true
}
