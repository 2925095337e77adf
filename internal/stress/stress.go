// Package stress makes life hard for tests of what the race detector does not
// see: wake-ups that get lost, flags that are not true for a moment, and memory
// that is kept. Only tests use it.
package stress

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"
)

// Time is for how long a stress test goes on: some seconds, or as long as the
// environment variable LOCKD_STRESS says, such as 45s.
func Time(tb testing.TB) time.Duration {
	tb.Helper()
	text := os.Getenv("LOCKD_STRESS")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		tb.Fatalf("LOCKD_STRESS: %v", err)
	}
	return d
}

// Threads has a test run with more threads than there are processors, so that the
// kernel stops them at any instruction. The event loops of a server that is
// started afterwards are more than there are processors, too. A test that calls
// it must not be parallel.
func Threads(tb testing.TB) {
	before := runtime.GOMAXPROCS(max(8, 2*runtime.NumCPU()))
	tb.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// Crowd does the same on a machine that other processes keep busy.
func Crowd(tb testing.TB) {
	tb.Helper()
	Threads(tb)
	for range runtime.NumCPU() + 1 {
		// They end by themselves, too, should the test be killed.
		busy := exec.Command("sh", "-c", "while kill -0 $PPID; do :; done")
		if err := busy.Start(); err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() {
			busy.Process.Kill()
			busy.Wait()
		})
	}
}

// Heap is how many bytes are in use when all garbage is collected.
func Heap() int64 {
	runtime.GC()
	runtime.GC() // what is in a pool survives the first one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
