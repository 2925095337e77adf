package main

import (
	"time"

	"github.com/alecthomas/kong"
)

// maxKeep is the option for a time, of which 0 means that nobody is kept.
func maxKeep(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

// graceTime is a time that may be 0, which is not the same as none.
type graceTime struct {
	given bool
	time  time.Duration
}

// Decode implements kong.MapperValue.
func (g *graceTime) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	if g.time, err = parseTime(text); err != nil {
		return err
	}
	g.given = true
	return nil
}

// option is how a server is told.
func (g graceTime) option() time.Duration {
	if g.given && g.time == 0 {
		return -1
	}
	return g.time
}
