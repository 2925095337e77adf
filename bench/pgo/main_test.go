package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestProfile runs it, for a moment.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	program, profile := filepath.Join(dir, "pgo.exe"), filepath.Join(dir, "default.pgo")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(program, "-duration", "50ms", "-o", profile).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command("go", "tool", "pprof", "-raw", profile).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) != 2 {
		t.Errorf("left behind: %v", left)
	}
}
