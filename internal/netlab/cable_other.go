//go:build !linux

package netlab

import (
	"fmt"
	"os/exec"
)

// A Cable is on Linux alone.
type Cable struct{}

// Lay says so.
func Lay() (*Cable, error) { return nil, fmt.Errorf("%w: they are on Linux alone", ErrUnavailable) }

func (*Cable) AtNear(f func()) error       { return ErrUnavailable }
func (*Cable) AtFar(f func()) error        { return ErrUnavailable }
func (*Cable) Cut(Way) error               { return ErrUnavailable }
func (*Cable) Lose(Loss) error             { return ErrUnavailable }
func (*Cable) Mend() error                 { return ErrUnavailable }
func (*Cable) Remove() error               { return ErrUnavailable }
func (*Cable) NearCommand(*exec.Cmd) error { return ErrUnavailable }
func (*Cable) FarCommand(*exec.Cmd) error  { return ErrUnavailable }
