package netlab

import (
	"errors"
	"os/exec"
	"testing"
)

// A Lab is a cable for the time of a test, which fails where something of it does.
type Lab struct {
	t     testing.TB
	cable *Cable
}

// New makes a lab for a test, which is skipped where that needs what is not there.
func New(t testing.TB) *Lab {
	t.Helper()
	c, err := Lay()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Remove() })
	return &Lab{t, c}
}

func (l *Lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// AtNear runs f, in which sockets that this goroutine makes are the near machine's.
func (l *Lab) AtNear(f func()) { l.at(l.cable.AtNear(f)) }

// AtFar does the same on the far one.
func (l *Lab) AtFar(f func()) { l.at(l.cable.AtFar(f)) }

// at does not end the test: any of its goroutines may enter a machine.
func (l *Lab) at(err error) {
	if err != nil {
		l.t.Error(err)
	}
}

// NearCommand has a command run on the near machine.
func (l *Lab) NearCommand(cmd *exec.Cmd) { l.must(l.cable.NearCommand(cmd)) }

// FarCommand does the same on the far one.
func (l *Lab) FarCommand(cmd *exec.Cmd) { l.must(l.cable.FarCommand(cmd)) }

// Cut cuts the far machine off, until Mend.
func (l *Lab) Cut(w Way) {
	l.t.Helper()
	l.must(l.cable.Cut(w))
}

// Lose has the cable lose packets, until Mend or another loss.
func (l *Lab) Lose(loss Loss) {
	l.t.Helper()
	l.must(l.cable.Lose(loss))
}

// Mend takes all of it back.
func (l *Lab) Mend() {
	l.t.Helper()
	l.must(l.cable.Mend())
}
