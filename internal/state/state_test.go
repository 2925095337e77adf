package state

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/lockfile"
)

// A faulty disk counts what it is asked for, and fails when told to.
type faulty struct {
	osDisk
	mu     sync.Mutex // guards what follows
	writes int
	syncs  int
	fails  func(op string) error
	half   bool          // a write that fails leaves a part
	hold   chan struct{} // closed: syncs go on
}

func (d *faulty) ask(op string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fails != nil {
		return d.fails(op)
	}
	return nil
}

func (d *faulty) failsFor(f func(op string) error) {
	d.mu.Lock()
	d.fails = f
	d.mu.Unlock()
}

func (d *faulty) write(f *os.File, text string) (int, error) {
	d.mu.Lock()
	d.writes++
	d.mu.Unlock()
	if err := d.ask("write"); err != nil {
		if d.half {
			f.WriteString(text[:len(text)/2])
		}
		return 0, err
	}
	return d.osDisk.write(f, text)
}

func (d *faulty) sync(f *os.File) error {
	d.mu.Lock()
	d.syncs++
	hold := d.hold
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if err := d.ask("sync"); err != nil {
		return err
	}
	return d.osDisk.sync(f)
}

func (d *faulty) rename(from, to string) error {
	if err := d.ask("rename"); err != nil {
		return err
	}
	return d.osDisk.rename(from, to)
}

func (d *faulty) syncFolder(path string) error {
	if err := d.ask("folder"); err != nil {
		return err
	}
	return d.osDisk.syncFolder(path)
}

func keyOf(n int) (k Key) {
	copy(k[:], fmt.Sprintf("%032d", n))
	return k
}

// await makes a call and returns what its callback is told.
func await(f func(done func(error))) error {
	got := make(chan error, 1)
	f(func(err error) { got <- err })
	return <-got
}

func mustOpen(t *testing.T, path string, d disk, boot string) (*File, *Found) {
	t.Helper()
	f, found, err := open(path, nil, d, boot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, found
}

// What was told is there the next time.
func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, found := mustOpen(t, path, osDisk{}, "one")
	if !found.Missing || len(found.Keys) != 0 || found.Start == 0 || found.Floor != found.Start+Ahead {
		t.Errorf("a new one: %+v", found)
	}
	for i := range 5 {
		if err := await(func(done func(error)) { f.Keep(keyOf(i), uint64(1000+i), done) }); err != nil {
			t.Fatal(err)
		}
	}
	await(func(done func(error)) { f.Forget(keyOf(2), done) })
	f.Forget(keyOf(3), nil)
	f.Close()
	if err := await(func(done func(error)) { f.Keep(keyOf(9), 1, done) }); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed: %v", err)
	}

	g, again := mustOpen(t, path, osDisk{}, "one")
	if !again.Missing || len(again.Keys) != 3 || again.Keys[keyOf(4)] != 1004 {
		t.Errorf("it was not recovered from: %+v", again)
	}
	if again.Start < found.Floor {
		t.Errorf("tokens begin at %d again, below the floor %d", again.Start, found.Floor)
	}
	await(g.Recovered)
	if err := await(func(done func(error)) { g.Raise(again.Floor+5, done) }); err != nil {
		t.Fatal(err)
	}
	await(func(done func(error)) { g.Raise(7, done) })
	g.Close()
	h, third := mustOpen(t, path, osDisk{}, "one")
	if third.Missing || third.OtherBoot || len(third.Keys) != 3 || third.Start != again.Floor+5 {
		t.Errorf("the third time: %+v", third)
	}
	h.Close()
	_, fourth := mustOpen(t, path, osDisk{}, "two")
	if fourth.Missing || !fourth.OtherBoot {
		t.Errorf("after a start of the machine: %+v", fourth)
	}
	if info, err := os.Stat(path); err != nil || lockfile.Works && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A system that does not tell its starts apart counts each as another one.
func TestUnknownBoot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "")
	await(f.Recovered)
	f.Close()
	if _, found := mustOpen(t, path, osDisk{}, ""); found.Missing || !found.OtherBoot {
		t.Errorf("%+v", found)
	}
}

// A line that a crash has cut anywhere is dropped, as nobody has been told of it.
func TestTorn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	await(func(done func(error)) { f.Keep(keyOf(1), 1000, done) })
	f.Close()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := keyLine(keyOf(2), 2000)
	for n := range last {
		if err := os.WriteFile(path, append(bytes.Clone(text), last[:n]...), 0o600); err != nil {
			t.Fatal(err)
		}
		g, found, err := open(path, nil, osDisk{}, "one")
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
		if len(found.Keys) != 1 || found.Torn != n {
			t.Errorf("cut after %d bytes: %+v", n, found)
		}
		g.Close()
		if s, err := Show(path); err != nil || s.Torn != 0 || len(s.Keys) != 1 {
			t.Errorf("it is not clean afterwards: %+v, %v", s, err)
		}
	}
}

// What is not as it was written is refused, with a word on what to do, and stays as it is.
func TestDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	await(func(done func(error)) { f.Keep(keyOf(1), 1000, done) })
	await(func(done func(error)) { f.Keep(keyOf(2), 1000, done) })
	f.Close()
	good, _ := os.ReadFile(path)
	for name, text := range map[string]string{
		"empty":           "",
		"zeros":           strings.Repeat("\x00", 4096),
		"another file":    "#!/bin/sh\nrm -rf /\n",
		"a flipped bit":   strings.Replace(string(good), "key 30", "key 31", 1),
		"no floor":        line(header) + bootLine("one"),
		"no boot":         line(header) + floorLine(5),
		"an unknown word": string(good) + line("lock x"),
		"a large floor":   string(good) + floorLine(1<<53),
		"a short key":     string(good) + line("key 3031 1000"),
		"no time":         string(good) + line("key "+strings.Repeat("30", 32)),
		"two headers":     string(good) + line(header),
		"other version":   line("lockd state 2") + bootLine("one"),
		"a wrong end":     string(good) + "key 12345678\n",
	} {
		os.WriteFile(path, []byte(text), 0o600)
		_, _, err := open(path, nil, osDisk{}, "one")
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "ove") {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(path); string(now) != text {
			t.Errorf("%s was changed", name)
		}
		if _, err := Show(path); err == nil {
			t.Errorf("%s is shown", name)
		}
	}
	os.Remove(path)
	os.Mkdir(path, 0o700)
	if _, _, err := open(path, nil, osDisk{}, "one"); err == nil {
		t.Error("a folder is opened")
	}
	if _, _, err := open(filepath.Join(path, "no", "state"), nil, osDisk{}, "one"); err == nil {
		t.Error("a file in no folder is opened")
	}
}

// One server at a time has a file.
func TestOneServerAtAFile(t *testing.T) {
	if !lockfile.Works {
		t.Skip("nothing is locked on this system")
	}
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	for range 2 {
		if _, _, err := open(path, nil, osDisk{}, "one"); err == nil || !strings.Contains(err.Error(), "another server") {
			t.Errorf("a second one: %v", err)
		}
	}
	if err := New(path); err == nil {
		t.Error("it is made anew while a server has it")
	}
	if err := await(func(done func(error)) { f.Keep(keyOf(1), 1, done) }); err != nil {
		t.Error(err)
	}
	go f.Close() // as one that was killed ends in a moment
	g, found := mustOpen(t, path, osDisk{}, "one")
	if len(found.Keys) != 1 {
		t.Errorf("%+v", found)
	}
	g.Close()
}

// Who has lost the lock writes no more: another server may have the file.
func TestLockIsRemoved(t *testing.T) {
	if !lockfile.Works {
		t.Skip("nothing is locked on this system")
	}
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	keep := func(f *File, n int) error {
		return await(func(done func(error)) { f.Keep(keyOf(n), 1000, done) })
	}
	if err := keep(f, 1); err != nil {
		t.Fatal(err)
	}
	os.Remove(path + ".lock")
	g, _ := mustOpen(t, path, osDisk{}, "one")
	if err := keep(f, 2); !errors.Is(err, errNotOurs) {
		t.Errorf("the first one: %v", err)
	}
	if err := keep(g, 3); err != nil {
		t.Errorf("the second one: %v", err)
	}
	if s, err := Show(path); err != nil || len(s.Keys) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// A floor stays below what tokens may be.
func TestFloorIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	if err := await(func(done func(error)) { f.Raise(1<<60, done) }); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if s, err := Show(path); err != nil || s.Floor != highest {
		t.Errorf("%+v, %v", s, err)
	}
	if _, _, err := open(path, nil, osDisk{}, "one"); err == nil || !strings.Contains(err.Error(), "clock") {
		t.Errorf("it is opened: %v", err)
	}
}

// Callbacks come after the disk has it, and all that wait share one wait for it.
func TestGroupCommit(t *testing.T) {
	d := &faulty{}
	f, _ := mustOpen(t, filepath.Join(t.TempDir(), "state"), d, "one")
	hold := make(chan struct{})
	d.mu.Lock()
	d.hold, d.syncs = hold, 0
	d.mu.Unlock()
	const n = 500
	told := make(chan error, n)
	for i := range n {
		f.Keep(keyOf(i), 1000, func(err error) { told <- err })
	}
	select {
	case <-told:
		t.Error("told before it is durable")
	default:
	}
	close(hold)
	for range n {
		if err := <-told; err != nil {
			t.Fatal(err)
		}
	}
	if d.mu.Lock(); d.syncs > 3 {
		t.Errorf("%d waits for the disk", d.syncs)
	}
	d.mu.Unlock()
}

// Whatever fails, what was told is in the file, and what was refused is not.
func TestDiskFails(t *testing.T) {
	full := errors.New("no space left on device")
	for _, op := range []string{"write", "sync"} {
		for _, half := range []bool{false, true} {
			for _, later := range []string{"", "write", "sync", "rename", "folder"} {
				path := filepath.Join(t.TempDir(), "state")
				d := &faulty{half: half}
				var logged bytes.Buffer
				f, _, err := open(path, slog.New(slog.NewTextHandler(&logged, nil)), d, "one")
				if err != nil {
					t.Fatal(err)
				}
				keep := func(n int) error {
					return await(func(done func(error)) { f.Keep(keyOf(n), 1000, done) })
				}
				keep(1)
				keep(2)
				d.failsFor(func(o string) error {
					if o == op || o == later {
						return full
					}
					return nil
				})
				if err := keep(3); !errors.Is(err, full) {
					t.Fatalf("%s fails: %v", op, err)
				}
				await(func(done func(error)) { f.Forget(keyOf(1), done) })
				keep(4)
				d.failsFor(nil)
				if err := keep(5); err != nil {
					t.Fatalf("it works again: %v", err)
				}
				f.Close()
				_, found := mustOpen(t, path, osDisk{}, "one")
				_, one := found.Keys[keyOf(1)]
				_, three := found.Keys[keyOf(3)]
				_, five := found.Keys[keyOf(5)]
				if one || three || !five || found.Keys[keyOf(2)] == 0 {
					t.Errorf("%s and %q fail, half %v: %v", op, later, half, found.Keys)
				}
				if n := strings.Count(logged.String(), "cannot write the state file"); n != 1 || !strings.Contains(logged.String(), "can be written again") {
					t.Errorf("the log says\n%s", logged.String())
				}
				if f.Failures() == 0 {
					t.Error("no failures are counted")
				}
			}
		}
	}
}

// A server that cannot write does not start.
func TestUnwritable(t *testing.T) {
	for _, op := range []string{"write", "sync", "rename", "folder"} {
		path := filepath.Join(t.TempDir(), "state")
		f, _ := mustOpen(t, path, osDisk{}, "one")
		await(func(done func(error)) { f.Keep(keyOf(1), 1000, done) })
		f.Close()
		d := &faulty{fails: func(o string) error {
			if o == op {
				return errors.New("broken")
			}
			return nil
		}}
		if _, _, err := open(path, nil, d, "one"); err == nil || !strings.Contains(err.Error(), "cannot write") {
			t.Errorf("%s: %v", op, err)
		}
		if _, found := mustOpen(t, path, osDisk{}, "one"); len(found.Keys) != 1 {
			t.Errorf("%s: %+v", op, found)
		}
	}
}

// A file that grows is written anew, and so is one that somebody has taken away.
func TestRewritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	f, _ := mustOpen(t, path, osDisk{}, "one")
	largest := int64(0)
	for i := range 3000 {
		f.Keep(keyOf(i), 1000, nil)
		if i >= 3 {
			f.Forget(keyOf(i-3), nil)
		}
		if i%50 == 0 {
			await(func(done func(error)) { f.Raise(1, done) })
			if info, err := os.Stat(path); err == nil {
				largest = max(largest, info.Size())
			}
		}
	}
	if largest > 100<<10 {
		t.Errorf("it grew to %d bytes", largest)
	}
	for _, take := range []func(){
		func() { os.Remove(path) },
		func() { os.WriteFile(path+"2", []byte("x"), 0o600); os.Rename(path+"2", path) },
	} {
		take()
		if err := await(func(done func(error)) { f.Keep(keyOf(9999), 1000, done) }); err != nil {
			t.Fatal(err)
		}
		if s, err := Show(path); err != nil || len(s.Keys) != 4 {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

func TestNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := New(path); err != nil {
		t.Fatal(err)
	}
	if err := New(path); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("again: %v", err)
	}
	s, err := Show(path)
	if err != nil || s.Missing || s.Here != (BootID() != "") || s.Floor == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	_, found := mustOpen(t, path, osDisk{}, BootID())
	if found.Missing || found.OtherBoot != (BootID() == "") {
		t.Errorf("%+v", found)
	}
	if _, err := Show(path + "x"); !errors.Is(err, fs.ErrNotExist) && err == nil {
		t.Errorf("no file: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > 2 { // the file, and its lock
		t.Errorf("left behind: %v", entries)
	}
}

// Whatever is in a file, it is understood or refused; what is understood is written as
// it was.
func FuzzParse(f *testing.F) {
	c := content{"one", 5, map[Key]uint64{keyOf(1): 7}}
	f.Add([]byte(c.text()))
	f.Add([]byte(c.text() + goneLine(keyOf(1)) + "key 3"))
	f.Add([]byte(line(header) + bootLine("a") + floorLine(1<<53-1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, torn, err := parse(text)
		if err != nil {
			return
		}
		again, none, err := parse([]byte(c.text()))
		if err != nil || none != 0 || torn > len(text) {
			t.Fatalf("%q: %v", c.text(), err)
		}
		if again.boot != c.boot || again.floor != c.floor || fmt.Sprint(again.keys) != fmt.Sprint(c.keys) {
			t.Errorf("%+v, then %+v", c, again)
		}
	})
}

// A disk that does not answer is told of, and what waits for it is done when it does.
func TestHangIsTold(t *testing.T) {
	var log bytes.Buffer
	d := new(faulty)
	f, _, err := open(filepath.Join(t.TempDir(), "state"), slog.New(slog.NewTextHandler(&log, nil)), d, "one")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hold := make(chan struct{})
	d.mu.Lock()
	d.hold = hold
	d.mu.Unlock()
	f.slow = time.Millisecond // before anything is ordered
	kept := make(chan error, 1)
	f.Keep(keyOf(1), 1000, func(err error) { kept <- err })
	for until := time.Now().Add(10 * time.Second); f.Failures() == 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	if f.Failures() != 1 || !strings.Contains(log.String(), "does not answer") {
		t.Errorf("%d failures, and the log says %q", f.Failures(), log.String())
	}
	close(hold)
	if err := <-kept; err != nil {
		t.Error(err)
	}
}

// A disk that is nearly full takes one write and not the next: the log is told once a
// minute, and not in turns.
func TestNearlyFullDisk(t *testing.T) {
	var logged bytes.Buffer
	d := new(faulty)
	f, _, err := open(filepath.Join(t.TempDir(), "state"), slog.New(slog.NewTextHandler(&logged, nil)), d, "one")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		d.failsFor(func(string) error {
			if n%2 == 0 {
				return errors.New("no space")
			}
			return nil
		})
		if err := await(func(done func(error)) { f.Keep(keyOf(n), 1000, done) }); (err != nil) != (n%2 == 0) {
			t.Fatal(n, err)
		}
	}
	f.Close()
	if n := strings.Count(logged.String(), "\n"); n != 2 || f.Failures() != 10 {
		t.Errorf("%d failures are told of in %d lines:\n%s", f.Failures(), n, logged.String())
	}
}

// A file in the place of another one has its floor, wherever the clock is, and nobody who
// is kept.
func TestInPlaceOf(t *testing.T) {
	old := filepath.Join(t.TempDir(), "old")
	path := old + "2"
	if err := NewInPlaceOf(path, old); err == nil {
		t.Error("made in place of nothing")
	}
	if err := NewAfter(old, uint64(time.Now().Add(5*time.Hour).UnixMicro()), 0); err != nil {
		t.Fatal(err)
	}
	f, found := mustOpen(t, old, osDisk{}, "one")
	done := make(chan error)
	f.Keep(Key{1}, 20000, func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := NewInPlaceOf(path, old); err == nil || !strings.Contains(err.Error(), "another server has it") {
		t.Errorf("while a server has it: %v", err)
	}
	f.Close()
	if err := NewInPlaceOf(path, old); err != nil {
		t.Fatal(err)
	}
	if err := NewInPlaceOf(path, old); err == nil {
		t.Error("made where there is one")
	}
	s, err := Show(path)
	if err != nil || s.Follows || s.Missing || s.Here != (BootID() != "") || len(s.Keys) != 0 || s.Floor != found.Floor {
		t.Errorf("%+v, %v; want the floor %d", s, err, found.Floor)
	}
}

// A file for a server that follows others has their floor, and says that their holders are
// to be waited for until somebody has.
func TestFollows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	floor := uint64(time.Now().Add(5 * time.Hour).UnixMicro())
	if err := NewAfter(path, floor, 27500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := NewAfter(path, floor, 0); err == nil {
		t.Error("made where there is one")
	}
	for range 2 { // the first server is killed before it has waited
		f, found := mustOpen(t, path, osDisk{}, "one")
		if !found.Follows || found.Lasts != 27500*time.Millisecond || found.Missing || found.OtherBoot || found.Start < floor || found.Floor != found.Start+Ahead {
			t.Errorf("%+v", found)
		}
		if found.Start > floor+2*Ahead {
			t.Errorf("it begins %d above the floor", found.Start-floor)
		}
		if _, _, err := Last(path); err == nil || !strings.Contains(err.Error(), "another server has it") {
			t.Errorf("while a server has it: %v", err)
		}
		f.Close()
	}
	f, _ := mustOpen(t, path, osDisk{}, "one")
	done := make(chan error)
	f.Recovered(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.Close()
	f, found := mustOpen(t, path, osDisk{}, "one")
	if found.Follows || found.OtherBoot || found.Start < floor {
		t.Errorf("when it was waited for: %+v", found)
	}
	f.Close()

	s, release, err := Last(path)
	if err != nil || s.Floor != found.Floor {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, _, err := Last(path); err == nil {
		t.Error("two have it")
	}
	release()
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	// One from the past, as nobody has given tokens up to now.
	old := path + "2"
	if err := NewAfter(old, 1, 0); err != nil {
		t.Fatal(err)
	}
	if s, err := Show(old); err != nil || !s.Follows || s.Floor < uint64(time.Now().Add(-time.Minute).UnixMicro()) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, boot := range []string{"after:", "after:x", "after:99999999999"} {
		if _, _, err := parse([]byte(line(header) + bootLine(boot) + floorLine(1))); err == nil {
			t.Errorf("%q is read", boot)
		}
	}
	if _, _, err := Last(filepath.Join(path, "none")); err == nil {
		t.Error("there is none")
	}
}
