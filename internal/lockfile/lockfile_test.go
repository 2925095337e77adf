package lockfile

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func anything(*os.File) error { return nil }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestExclusion: of many that take the file and give it back, or die and leave
// it behind, one at a time has it, and has the one that is at the path.
func TestExclusion(t *testing.T) {
	t.Parallel()
	if !Works {
		t.Skip("no locks on this system")
	}
	path := filepath.Join(t.TempDir(), "f")
	var holders, taken atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for round := range 2000 {
				f, err := Acquire(path, anything)
				if errors.Is(err, ErrLocked) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				taken.Add(1)
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have it", n)
				}
				if there, err := isAt(f.File, path); !there {
					t.Errorf("what is at the path is not what was locked: %v", err)
				}
				runtime.Gosched()
				holders.Add(-1)
				if (i+round)%5 == 0 {
					f.Close()
				} else {
					f.Remove()
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("taken %d times", taken.Load())
}

// TestRemoveOnce: the second call removes nothing that is the next one's, even
// if that file has got the number of the first.
func TestRemoveOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for range 10 {
		first, err := Acquire(path, anything)
		must(t, err)
		first.Remove()
		second, err := Acquire(path, anything)
		must(t, err)
		first.Remove()
		if there, err := isAt(second.File, path); !there {
			t.Errorf("it is gone: %v", err)
		}
		second.Remove()
	}
	(*File)(nil).Remove()
}

// TestReplaced: what somebody else has put in the file's place stays.
func TestReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	first, err := Acquire(path, anything)
	must(t, err)
	must(t, os.Rename(path, path+".old")) // so that its number is not free
	second, err := Acquire(path, anything)
	must(t, err)
	first.Remove()
	if there, err := isAt(second.File, path); !there {
		t.Errorf("it is gone: %v", err)
	}
	second.Remove()
}

// TestNeverTheSame: on a file system that cannot tell files apart, or against
// somebody who replaces them all the time, Acquire gives up.
func TestNeverTheSame(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	replaced := 0
	_, err := Acquire(path, func(*os.File) error {
		replaced++
		must(t, os.Rename(path, path+".old"))
		return os.WriteFile(path, nil, 0o600)
	})
	if err == nil || replaced != tries {
		t.Errorf("replaced %d times, %v", replaced, err)
	}
}

func TestRefusesWhatIsNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	must(t, os.WriteFile(target, nil, 0o644))
	must(t, os.Symlink(target, link))
	for _, path := range []string{dir, link, os.DevNull} {
		if _, err := Acquire(path, anything); err == nil || err.Error() != "it is not a regular file" {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Acquire(filepath.Join(dir, "none", "f"), anything); err == nil || strings.Contains(err.Error(), dir) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestCheckComesFirst: what is somebody's is left as it is.
func TestCheckComesFirst(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path, []byte("precious"), 0o644))
	precious := errors.New("precious")
	if _, err := Acquire(path, func(*os.File) error { return precious }); err != precious {
		t.Error(err)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o644 || info.Size() != int64(len("precious")) {
		t.Errorf("it is now %v, %d bytes", info.Mode(), info.Size())
	}
}
