//go:build linux && !noloop

package conn

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// tableSize is how many descriptors the process's table has room for.
func tableSize(t *testing.T) (n int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, size, _ := strings.Cut(string(status), "FDSize:")
	if _, err := fmt.Sscan(size, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// There is room before it is needed.
func TestDescriptorsHaveRoom(t *testing.T) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < firstRoom {
		t.Skipf("the limit is %d (%v)", limit.Cur, err)
	}
	before := openFiles(t)
	var d descriptors
	d.grow(firstRoom)
	if n := tableSize(t); n < firstRoom {
		t.Errorf("the table has room for %d", n)
	}
	d.use(firstRoom/2 - 1)
	if n := d.more.Load(); n != firstRoom/2 && limit.Cur > firstRoom {
		t.Errorf("to grow with %d", n)
	}
	want := int(min(4*firstRoom, limit.Cur))
	for range 2 { // once
		d.use(firstRoom / 2)
	}
	room := func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.room
	}
	for room() < want {
		runtime.Gosched()
	}
	if n := tableSize(t); n < want {
		t.Errorf("the table has room for %d, not %d", n, want)
	}
	if n := openFiles(t); n != before {
		t.Errorf("%d descriptors are left", n-before)
	}
}
