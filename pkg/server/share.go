package server

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/size"
)

// shares reads what one client may have of each thing that is bounded for all.
func (o *Options) shares() (limits shard.ShareLimits, err error) {
	all := map[string]int64{
		"locks": int64(o.MaxLocks), "rates": int64(o.MaxLocks), "waiters": int64(o.MaxWaiters),
		"sessions": session.MostSessions, "bytes": o.clientsMemory(),
	}
	portions := map[string]string{}
	for what := range all {
		portions[what] = defaultShare
	}
	for i, word := range o.MaxShare {
		if word == "off" && len(o.MaxShare) == 1 {
			return limits, nil
		}
		what, portion, ok := strings.Cut(word, "=")
		if _, known := all[what]; !known || !ok {
			return limits, optionError("max-share", "must look like locks=10%%,waiters=1000, of locks, waiters, rates, sessions and bytes, or be off, not %q", word)
		}
		for _, before := range o.MaxShare[:i] {
			if strings.HasPrefix(before, what+"=") {
				return limits, optionError("max-share", "says twice what the share of %s is", what)
			}
		}
		portions[what] = portion
	}
	for what, portion := range portions {
		n, err := readPortion(portion, all[what], what == "bytes")
		if err != nil {
			return limits, optionError("max-share", "%s: %w", what, err)
		}
		switch n64 := n; what {
		case "locks":
			limits.Locks = int(n64)
		case "waiters":
			limits.Waiters = int(n64)
		case "rates":
			limits.Rates = int(n64)
		case "sessions":
			limits.Sessions = int(n64)
		case "bytes":
			limits.Bytes = n64
		}
	}
	return limits, nil
}

const defaultShare = "50%"

// readPortion reads a part of all, which is in percent, a number, or off. 0 is no
// bound, as it is of all.
func readPortion(text string, all int64, bytes bool) (int64, error) {
	if text == "off" {
		return 0, nil
	}
	if percent, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseFloat(percent, 64)
		if err != nil || !(n > 0 && n <= 100) {
			return 0, fmt.Errorf("must be above 0%% and at most 100%%, not %q", text)
		}
		if n == 100 || all == 0 {
			return 0, nil
		}
		return max(1, int64(n/100*float64(all))), nil
	}
	if bytes {
		n, err := size.Parse(text)
		if err == nil && n == 0 {
			err = fmt.Errorf("must be above 0; off is no bound")
		}
		return n, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt32 {
		return 0, fmt.Errorf("must be a number from 1 on, a part of all such as 10%%, or off, not %q", text)
	}
	return n, nil
}
