package conn

import (
	"fmt"
	"strings"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/size"
)

// logShortage tells that requests are refused at a bound, and who has most.
func (s *Server) logShortage(x session.Shortage) {
	attrs := make([]any, 0, 4)
	text := "too many " + x.Bound + ": refusing more"
	if x.Bound == "bytes" {
		text = "memory is used up: refusing what takes more"
	}
	if x.Client != "" {
		text = "a client has its share of " + x.Bound + ": refusing it more"
		attrs = append(attrs, "client", x.Client)
	}
	var largest []string
	for _, t := range x.Takers {
		largest = append(largest, takerText(t))
	}
	s.cfg.Logger.Warn(text, append(attrs, "largest", strings.Join(largest, "; "))...)
}

// takerText is such as `10.0.0.7 (deploy-1): 7000 locks, 3 waiters, 512 KiB`.
func takerText(t session.Taker) string {
	var has []string
	for _, n := range []struct {
		n    int
		what string
	}{{t.Locks, "locks"}, {t.Waiters, "waiters"}, {t.Rates, "rates"}, {t.Sessions, "sessions"}} {
		if n.n > 0 {
			has = append(has, fmt.Sprintf("%d %s", n.n, n.what))
		}
	}
	has = append(has, size.Format(t.Bytes))
	name := ""
	if t.Name != "" {
		name = fmt.Sprintf(" (%s)", t.Name)
	}
	return t.Client + name + ": " + strings.Join(has, ", ")
}
