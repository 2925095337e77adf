package main

import (
	"strings"
	"testing"
	"time"
)

// TestLimit has workers that do little else than get in each other's way.
func TestLimit(t *testing.T) {
	for _, limit := range []int{1, 3} {
		f := fleet{lock: "x", workers: 12, limit: limit, jobs: 5, work: time.Millisecond}
		var out strings.Builder
		if err := f.run(t.Context(), &out); err != nil {
			t.Errorf("limit %d: %v\n%s", limit, err, &out)
		}
		if n := f.done.Load(); n != 60 {
			t.Errorf("limit %d: %d jobs done, want 60", limit, n)
		}
	}
}
