// Package reload has files read again when they change: certificates, the file
// of tokens. What counts is what is in a file, not its time: so it is the same
// whether a file is written in place, renamed over another one, or reached by a
// symlink that moves, as Kubernetes does it.
package reload

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Interval is how often files are looked at. They are few and small, and a look
// costs some ten microseconds; what the system tells of changes by itself it does
// not tell of every kind of file.
const Interval = 2 * time.Second

// Files are some files that are read together, such as a certificate and its
// key. Its methods may be called by any goroutine.
type Files struct {
	what  string
	paths []string
	load  func() error
	log   *slog.Logger
	wait  func(time.Duration)

	mu     sync.Mutex
	sum    [sha256.Size]byte // of what was in them when they were last read
	failed bool              // which could not be used
	ticker *time.Ticker
	stop   chan struct{}
	ended  sync.WaitGroup
}

// Open reads files for the first time: load uses what is in them, and returns
// what is wrong. From then on it is called again whenever that has changed, until
// Close. If load fails then, what it has used before has to stay: the log says
// so, by what the files are called, "certificate".
func Open(what string, paths []string, log *slog.Logger, load func() error) (*Files, error) {
	f := &Files{what: what, paths: paths, load: load, log: log, wait: time.Sleep, stop: make(chan struct{})}
	// Before they are read: what changes meanwhile is read again.
	f.sum, _ = f.look()
	if err := load(); err != nil {
		return nil, err
	}
	f.ticker = time.NewTicker(Interval)
	f.ended.Go(func() {
		for {
			select {
			case <-f.ticker.C:
				f.Check()
			case <-f.stop:
				return
			}
		}
	})
	return f, nil
}

// Close ends the looking.
func (f *Files) Close() {
	close(f.stop)
	f.ticker.Stop()
	f.ended.Wait()
}

// Check looks now whether the files have changed, and tells what is wrong with
// what they have now, changed or not. That is nil when all is well.
func (f *Files) Check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum, err := f.look()
	if sum != f.sum {
		sum, err = f.settled(sum, err)
	}
	if err == nil && sum == f.sum && !f.failed {
		return nil
	}
	changed := sum != f.sum
	f.sum = sum
	if err == nil {
		err = f.load()
	}
	switch {
	case err == nil:
		f.failed = false
		f.log.Info("read again", "what", f.what, "files", f.paths)
	case changed || !f.failed:
		f.failed = true
		f.log.Error("cannot use what changed: going on with what was read before", "what", f.what, "err", err)
	}
	return err
}

// Who writes a file in place may be in the middle of it: what has changed counts when
// it has stayed the same for a moment, or after that many.
const (
	moment  = 50 * time.Millisecond
	moments = 20
)

// settled looks again at what has changed until it changes no more.
func (f *Files) settled(sum [sha256.Size]byte, err error) ([sha256.Size]byte, error) {
	for range moments {
		f.wait(moment)
		before := sum
		if sum, err = f.look(); sum == before {
			break
		}
	}
	return sum, err
}

// look returns a sum over what is in the files.
func (f *Files) look() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	for _, path := range f.paths {
		b, failed := Read(path)
		// Each with its own sum, lest a byte that moves from one to another
		// makes no difference.
		one := sha256.Sum256(b)
		h.Write(one[:])
		err = errors.Join(err, failed)
	}
	return [sha256.Size]byte(h.Sum(nil)), err
}

// Largest bounds what is read of a file, in bytes.
const Largest = 16 << 20

// ErrNotRegular is what reading anything but a file fails with: a pipe could be read
// once only, and whoever opens one may wait for ever.
var ErrNotRegular = errors.New("it is no regular file")

// Read returns what is in a regular file, up to Largest.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() && !info.IsDir() {
		err = &fs.PathError{Op: "read", Path: path, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, Largest))
}
