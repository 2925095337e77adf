package httprate

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/nylen/lockd/internal/shard"
)

// decide answers what the table has decided.
func (h *Handler) decide(w http.ResponseWriter, a *ask, v shard.Verdict) {
	status, remaining, retry := http.StatusOK, v.Open-a.cost, uint64(0)
	if v.Outcome == shard.Refused {
		status, remaining, retry = a.denied, v.Open, v.Retry
		w.Header().Set("Retry-After", strconv.FormatUint(ceil(retry, time.Second), 10))
	}
	// Not by Set, which would spell them its own way.
	w.Header()["RateLimit-Policy"] = []string{policy(a)}
	w.Header()["RateLimit"] = []string{serviceLimit(a, remaining, a.rate.Next(v, a.cost))}
	h.answer(w, status, appendDecision(nil, v.Outcome == shard.Acquired, a.rate.Limit, remaining, ceil(retry, time.Millisecond)))
}

// ceil returns nanoseconds in a unit, rounded up: nobody is to come too early.
func ceil(ns uint64, unit time.Duration) uint64 {
	return (ns + uint64(unit) - 1) / uint64(unit)
}

// policy is the value of RateLimit-Policy. Its window is in seconds, and left out where it
// is not some of them.
func policy(a *ask) string {
	text := `"` + a.policy + `";q=` + strconv.FormatUint(uint64(a.rate.Limit), 10)
	if w := a.rate.Window; w%uint64(time.Second) == 0 {
		text += ";w=" + strconv.FormatUint(w/uint64(time.Second), 10)
	}
	return text
}

// serviceLimit is the value of RateLimit: how many units remain, and when there is one
// more, unless all are there.
func serviceLimit(a *ask, remaining uint32, next uint64) string {
	text := `"` + a.policy + `";r=` + strconv.FormatUint(uint64(remaining), 10)
	if next > 0 {
		text += ";t=" + strconv.FormatUint(ceil(next, time.Second), 10)
	}
	return text
}

func appendDecision(out []byte, allowed bool, limit, remaining uint32, retry uint64) []byte {
	out = strconv.AppendBool(append(out, `{"allowed":`...), allowed)
	out = strconv.AppendUint(append(out, `,"limit":`...), uint64(limit), 10)
	out = strconv.AppendUint(append(out, `,"remaining":`...), uint64(remaining), 10)
	out = strconv.AppendUint(append(out, `,"retry_after_ms":`...), retry, 10)
	return append(out, "}\n"...)
}

func appendError(out []byte, text string) []byte {
	quoted, _ := json.Marshal(text)
	return append(append(append(out, `{"error":`...), quoted...), "}\n"...)
}

// bound says which bound an outcome is about, if it is about one.
func bound(o shard.Outcome) (text string, ok bool) {
	switch o {
	case shard.Acquired, shard.Refused:
		return "", false
	case shard.Full:
		return "there are too many locks, of which each rate is one (--max-locks)", true
	case shard.ShareFull:
		return "this client has its share of locks, of which each rate is one (--max-share locks=)", true
	case shard.ShareRates:
		return "this client has its share of rates (--max-share rates=)", true
	case shard.ShareBytes:
		return "this client has its share of memory (--max-share bytes=)", true
	case shard.MemoryFull:
		return "there is no memory for one rate more (--max-memory)", true
	}
	return "the rate cannot be had: " + o.String(), true
}
