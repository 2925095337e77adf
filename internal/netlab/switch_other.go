//go:build !linux

package netlab

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"time"
)

// A Switch is on Linux alone.
type Switch struct{}

// A Machine is, too.
type Machine struct{ Name, Addr string }

// NewSwitch says so.
func NewSwitch() (*Switch, error) {
	return nil, fmt.Errorf("%w: they are on Linux alone", ErrUnavailable)
}

func (*Switch) Machine(string) (*Machine, error)                      { return nil, ErrUnavailable }
func (*Switch) Remove() error                                         { return ErrUnavailable }
func (*Machine) At(f func()) error                                    { return ErrUnavailable }
func (*Machine) Dial(string, string, time.Duration) (net.Conn, error) { return nil, ErrUnavailable }
func (*Machine) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, ErrUnavailable
}
func (*Machine) Command(*exec.Cmd) error         { return ErrUnavailable }
func (*Machine) Drop(Drop) (func() error, error) { return nil, ErrUnavailable }
