//go:build !linux

package netlab

import (
	"os/exec"
	"testing"
)

// A Lab is on Linux alone.
type Lab struct{}

// New skips the test.
func New(t testing.TB) *Lab {
	t.Skip("network namespaces are on Linux alone")
	return nil
}

func (*Lab) AtNear(f func())       {}
func (*Lab) AtFar(f func())        {}
func (*Lab) Cut(Way)               {}
func (*Lab) Mend()                 {}
func (*Lab) NearCommand(*exec.Cmd) {}
func (*Lab) FarCommand(*exec.Cmd)  {}
