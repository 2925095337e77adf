package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// maxWait is the longest time that a request can speak of.
const maxWait = wire.MaxWait * time.Millisecond

// rate is N/TIME; its zero value is none.
type rate struct {
	n      uint32
	window time.Duration
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *rate) UnmarshalText(text []byte) error {
	number, window, ok := strings.Cut(string(text), "/")
	if ok && window != "" && (window[0] < '0' || window[0] > '9') {
		window = "1" + window // 10/s
	}
	n, err := strconv.ParseUint(number, 10, 32)
	w, err2 := time.ParseDuration(window)
	if !ok || err != nil || err2 != nil || n == 0 || n > wire.MaxLimit {
		return fmt.Errorf("%q is no rate, such as 10/1s or 100/24h", text)
	}
	if w < time.Millisecond || w > maxWait {
		return fmt.Errorf("%q is no rate: its time must be 1ms to 24h", text)
	}
	*r = rate{uint32(n), w}
	return nil
}
