package session

import (
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// A wrong token is answered late, so that guessing takes its time. Nobody else
// waits: it is as if the session waited for a lock.

// denialTakes is how late.
const denialTakes = 100 * time.Millisecond

// A denial is the answer that is to come.
type denial struct {
	due   time.Time
	timer *time.Timer
}

func (s *Session) deny() {
	st := s.stream
	st.counters.authFailed.Add(1)
	st.door |= denying
	s.wait = &wait{denial: &denial{
		due:   time.Now().Add(denialTakes),
		timer: time.AfterFunc(denialTakes, func() { st.post(s) }),
	}}
}

// denied appends the answer when it is time. What woke the session may have been
// something else, which has come late.
func (s *Session) denied(out []byte) []byte {
	if time.Now().Before(s.wait.denial.due) {
		return out
	}
	s.wait = nil
	st := s.stream
	st.closing = st.closing || st.door&deaf != 0
	st.door &^= denying
	return append(s.prefix(out), wire.AuthFailed...)
}
