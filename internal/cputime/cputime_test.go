package cputime

import (
	"runtime"
	"testing"
	"time"
)

// What is done takes time.
func TestUsed(t *testing.T) {
	switch runtime.GOOS {
	case "js", "wasip1", "plan9":
		t.Skip("the system does not tell")
	}
	before, n := Used(), 0
	for Used() < before+20*time.Millisecond {
		n++
	}
	if n == 0 {
		t.Error("no time was used")
	}
}
