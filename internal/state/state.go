// Package state is the file in which a server keeps what has to outlive its process:
// which clients it keeps (hashes of their KEYs, and for how long), the number that
// fencing tokens of later servers begin with, and on which start of the machine all that
// was. Of locks there is nothing in it: those who hold them say so.
//
// Its invariant: what a callback has been told without an error is in the file, and
// stays there whatever happens to the process or the machine; and one process at a time
// has the file.
//
// The file is lines of text, each with its checksum, and grows at its end. Now and then
// it is written anew beside itself, and takes its own place by a rename. What a crash
// leaves of a last line, nobody has been told, and it is dropped.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/lockfile"
)

// A Key is a client that is kept: the hash of its KEY.
type Key [32]byte

// Found is what there was when a file was opened.
type Found struct {
	// Missing says that there was no file, or that a server that found none has not
	// yet waited for as long as it has to then.
	Missing bool
	// OtherBoot says that the machine has been started since, or that it is another one.
	OtherBoot bool
	// Follows says that servers with other files, or none, were there before, and that it has not
	// been waited for their holders yet, who may believe in what they had for Lasts.
	Follows bool
	Lasts   time.Duration
	// Keys are the clients that were kept, and for how many milliseconds.
	Keys map[Key]uint64
	// Start is the number that the tokens of this server begin after, and Floor the
	// one from which on it may not give any before it has raised that.
	Start, Floor uint64
	// Opened is a time at which nobody else had the file any more.
	Opened time.Time
	// Torn is how many bytes of an unfinished line were dropped at the end.
	Torn int
}

// A File is open for one server. Its methods may be called by any goroutine, and return
// at once; what they are given is called when all is durable, or has failed, on the
// file's own goroutine.
type File struct {
	path string
	lock *lockfile.File
	log  *slog.Logger
	disk disk
	boot string        // this machine's now
	slow time.Duration // after how long a write hangs

	mu     sync.Mutex // guards what follows
	orders []order
	closed bool
	wake   sync.Cond
	done   chan struct{}

	// The goroutine's own.
	now     content // what is in the file
	file    *os.File
	size    int64
	unclean bool      // the file has to be written anew before anything else
	failed  bool      // the log knows that it cannot be written
	told    time.Time // when it was told that last

	failures int // guarded by mu
}

// An order is a change that is to be made.
type order struct {
	change func(*content)
	undo   func(*content) // where it cannot be written; nil: it is so all the same
	line   string         // what says so in the file
	done   func(error)
}

// Ahead is how much further the floor is than the tokens that a server begins with, about
// two seconds of the clock: enough until that is raised for the first time.
const Ahead = 1 << 21

// highest is the largest floor: tokens are below 2^53, or some languages could not
// store them.
const highest = 1<<53 - 1

// errNotOurs refuses to write what another server may have by now.
var errNotOurs = errors.New("somebody has removed FILE.lock beside it, so another server may have it, too: restart this one, with a file of its own")

// lockWait is for how long a file is waited for that another process has: one that was
// killed a moment ago may still be ending.
const lockWait = time.Second

// Open opens a file, which is made if there is none, and has it until Close. What is
// wrong with it is an error that says what to do: a server that does not know whom the
// last one kept would take their locks away.
func Open(path string, log *slog.Logger) (*File, *Found, error) {
	return open(path, log, osDisk{}, BootID())
}

func open(path string, log *slog.Logger, d disk, boot string) (*File, *Found, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lock, err := take(path)
	if err != nil {
		return nil, nil, err
	}
	f := &File{path: path, lock: lock, log: log, disk: d, boot: boot, slow: slowWrite, done: make(chan struct{})}
	f.wake.L = &f.mu
	found, err := f.begin()
	if err != nil {
		lock.Remove()
		return nil, nil, err
	}
	go f.run()
	return f, found, nil
}

// take locks the file's neighbour, PATH.lock: the file itself is replaced now and then.
func take(path string) (*lockfile.File, error) {
	for until := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		lock, err := lockfile.Acquire(path+".lock", lockfile.Empty)
		switch {
		case err == nil:
			return lock, nil
		case !errors.Is(err, lockfile.ErrLocked):
			return nil, fmt.Errorf("%s.lock: %w", path, err)
		case time.Now().After(until):
			return nil, fmt.Errorf("%s: another server has it (%s.lock is locked): each server needs a file of its own", path, path)
		}
	}
}

// begin reads the file, and writes it anew with a floor for this server.
func (f *File) begin() (*Found, error) {
	opened := time.Now()
	c, torn, err := read(f.path, true)
	found := &Found{Opened: opened, Torn: torn}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c = &content{boot: missing, keys: map[Key]uint64{}}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	found.Missing = c.boot == missing
	found.Lasts, found.Follows = c.following()
	found.OtherBoot = !found.Missing && !found.Follows && (f.boot == "" || c.boot != f.boot)
	found.Keys = make(map[Key]uint64, len(c.keys))
	for key, ms := range c.keys {
		found.Keys[key] = ms
	}
	if found.Start = max(uint64(opened.UnixMicro()), c.floor); found.Start > highest-Ahead {
		return nil, fmt.Errorf("%s: fencing tokens would begin with %d, and have to stay below 2^53: is the machine's clock right?", f.path, found.Start)
	}
	c.floor = found.Start + Ahead
	found.Floor = c.floor
	f.now = *c
	if err := f.rewrite(); err != nil {
		return nil, fmt.Errorf("%s: cannot write it: %w", f.path, lockfile.Bare(err))
	}
	return found, nil
}

// Keep notes a client.
func (f *File) Keep(key Key, ms uint64, done func(error)) {
	f.order(order{
		change: func(c *content) { c.keys[key] = ms },
		undo:   func(c *content) { delete(c.keys, key) }, // nobody has been told
		line:   keyLine(key, ms), done: done,
	})
}

// Forget forgets one.
func (f *File) Forget(key Key, done func(error)) {
	f.order(order{change: func(c *content) { delete(c.keys, key) }, line: goneLine(key), done: done})
}

// Raise raises the floor; it never sinks.
func (f *File) Raise(floor uint64, done func(error)) {
	f.order(order{change: func(c *content) { c.floor = max(c.floor, min(floor, highest)) }, line: floorLine(min(floor, highest)), done: done})
}

// Recovered notes that nothing of an earlier start of the machine has to be waited for any
// more.
func (f *File) Recovered(done func(error)) {
	boot := f.boot
	if boot == "" {
		boot = unknown
	}
	was := ""
	f.order(order{
		change: func(c *content) { was, c.boot = c.boot, boot },
		undo:   func(c *content) { c.boot = was },
		line:   bootLine(boot), done: done,
	})
}

// Failures is how many times the file could not be written.
func (f *File) Failures() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures
}

func (f *File) order(o order) {
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.orders = append(f.orders, o)
		f.wake.Signal()
	}
	f.mu.Unlock()
	if closed && o.done != nil {
		o.done(fs.ErrClosed)
	}
}

// Close ends it, when all that was ordered before is done, and gives the file back.
func (f *File) Close() error {
	f.mu.Lock()
	first := !f.closed
	f.closed = true
	f.wake.Signal()
	f.mu.Unlock()
	<-f.done
	if !first {
		return nil
	}
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	f.lock.Remove()
	return err
}

// run makes the changes that were ordered: all that have come while it made the ones
// before share a write, and wait for the disk once.
func (f *File) run() {
	defer close(f.done)
	for {
		f.mu.Lock()
		for len(f.orders) == 0 && !f.closed {
			f.wake.Wait()
		}
		orders := f.orders
		f.orders = nil
		f.mu.Unlock()
		if len(orders) == 0 {
			return
		}
		hangs := time.AfterFunc(f.slow, f.noteHang)
		err := f.write(orders)
		hangs.Stop()
		f.note(err)
		for _, o := range orders {
			if o.done != nil {
				o.done(err)
			}
		}
	}
}

// slowWrite is after how long a write is one that hangs.
const slowWrite = 5 * time.Second

// noteHang tells the log of it.
func (f *File) noteHang() {
	f.log.Error("the state file's disk does not answer: nobody new is kept until it does", "state", f.path, "since", f.slow)
	f.mu.Lock()
	f.failures++
	f.mu.Unlock()
}

// tellEvery is how often the log is told: a disk that is nearly full takes one write, and
// not the next.
const tellEvery = time.Minute

// note tells the log that the file cannot be written, and that it can again.
func (f *File) note(err error) {
	switch {
	case err != nil:
		f.mu.Lock()
		f.failures++
		f.mu.Unlock()
		if !f.failed && time.Since(f.told) >= tellEvery {
			f.failed, f.told = true, time.Now()
			f.log.Error("cannot write the state file: nobody new is kept until that works again; "+
				"those who were kept and have ended since may come back after a restart",
				"state", f.path, "err", lockfile.Bare(err))
		}
	case f.failed:
		f.failed = false
		f.log.Info("the state file can be written again", "state", f.path)
	}
}

// write makes changes durable. If that fails, the file stays as it was, or is written
// anew the next time; what was to be added is not in it then, and what was to go is
// gone by then.
func (f *File) write(orders []order) error {
	var text strings.Builder
	for _, o := range orders {
		o.change(&f.now)
		text.WriteString(o.line)
	}
	err := f.append(text.String())
	if err == nil {
		return nil
	}
	f.unclean = true
	for _, o := range slices.Backward(orders) {
		if o.undo != nil {
			o.undo(&f.now)
		}
	}
	return err
}

func (f *File) append(text string) error {
	if lockfile.Works && !f.lock.There() {
		return errNotOurs
	}
	if !f.unclean && !f.disk.isAt(f.file, f.path) {
		f.log.Error("somebody has removed or replaced the state file: writing it anew", "state", f.path)
		f.unclean = true
	}
	if f.unclean || f.size > 64<<10 && f.size > 4*f.now.size() {
		return f.rewrite()
	}
	if _, err := f.disk.write(f.file, text); err != nil {
		return err
	}
	f.size += int64(len(text))
	return f.disk.sync(f.file)
}

// rewrite writes all anew, beside the file, which is replaced when that is durable.
func (f *File) rewrite() error {
	if f.file != nil { // Windows replaces no open file
		f.file.Close()
		f.file, f.unclean = nil, true
	}
	text := f.now.text()
	file, err := create(f.disk, f.path, text)
	if err != nil {
		return err
	}
	f.file, f.size, f.unclean = file, int64(len(text)), false
	return nil
}
