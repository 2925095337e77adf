package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nylen/lockd/internal/wire"
)

// holdings are the locks that a session holds, by the replies that it got. They
// are known by their kind's word and their name.
type holdings struct{ locks []holding }

type holding struct {
	name   string
	shared bool
}

// note takes notice of a reply, `NUMBER TEXT`.
func (h *holdings) note(reply string) {
	number, text, _ := strings.Cut(reply, " ")
	if number == "0" {
		return
	}
	for _, what := range []struct {
		text         string
		gets, shared bool
	}{
		{wire.GetSuccess, true, false},
		{wire.ReleaseSuccess, false, false},
		{wire.SharedGetSuccess, true, true},
		{wire.SharedReleaseSuccess, false, true},
	} {
		name, ok := strings.CutPrefix(text, what.text)
		if !ok {
			continue
		}
		lock := holding{name, what.shared}
		h.locks = slices.DeleteFunc(h.locks, func(l holding) bool { return l == lock })
		if what.gets {
			h.locks = append(h.locks, lock)
		}
	}
	if reply+"\n" == wire.Bye {
		h.locks = nil
	}
}

// end forgets them, and says what becomes of them: `2 locks are released: a, b
// (shared)`. It is empty if there are none.
func (h *holdings) end(released string) string {
	const named = 8
	var names []string
	for _, l := range h.locks[:min(named, len(h.locks))] {
		name := plain(l.name)
		if l.shared {
			name += " (shared)"
		}
		names = append(names, name)
	}
	n := len(h.locks)
	h.locks = nil
	if n > named {
		names = append(names, "...")
	}
	switch n {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("1 lock is %s: %s", released, names[0])
	}
	return fmt.Sprintf("%d locks are %s: %s", n, released, strings.Join(names, ", "))
}
