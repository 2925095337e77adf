package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/internal/wire"
)

// maxWait is the longest time that a request can speak of.
const maxWait = wire.MaxWait * time.Millisecond

// rate is N/TIME, with a time as all flags have it, 10/1s or 10/60, or the name
// of a unit for one of it, 10/s or 10/m. Its zero value is none.
type rate struct {
	n      uint32
	window time.Duration
}

// Decode implements kong.MapperValue.
func (r *rate) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err == nil {
		*r, err = parseRate(text)
	}
	return err
}

func parseRate(text string) (rate, error) {
	number, window, ok := strings.Cut(text, "/")
	if window != "" && (window[0] < '0' || window[0] > '9') && window[0] != '.' {
		window = "1" + window
	}
	n, err := strconv.ParseUint(number, 10, 32)
	w, err2 := parseTime(window)
	if !ok || err != nil || err2 != nil || n == 0 || n > wire.MaxLimit {
		return rate{}, fmt.Errorf("%q is no rate such as 10/s, 100/5m, or 100/60 for 60 seconds", text)
	}
	if w < time.Millisecond || w > maxWait {
		return rate{}, fmt.Errorf("%q is no rate: its time must be 1ms to 24h", text)
	}
	return rate{uint32(n), w}, nil
}
