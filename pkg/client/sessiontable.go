package client

import (
	"iter"
	"sync/atomic"
)

// A sessionTable finds sessions by number. Whoever puts some in and takes them
// out holds the mux's mutex; the goroutine that reads looks them up without.
type sessionTable struct {
	pages atomic.Pointer[[]*page]
}

type page [256]atomic.Pointer[session]

// get returns the session with this number, or nil.
func (t *sessionTable) get(number int64) *session {
	pages := t.pages.Load()
	if pages == nil || number/int64(len(page{})) >= int64(len(*pages)) {
		return nil
	}
	return (*pages)[number/int64(len(page{}))][number%int64(len(page{}))].Load()
}

// set puts a session in, or takes it out with nil. Numbers are used from 0 on,
// without a gap.
func (t *sessionTable) set(number uint32, s *session) {
	var pages []*page
	if p := t.pages.Load(); p != nil {
		pages = *p
	}
	i := int(number) / len(page{})
	if i == len(pages) {
		// Nobody looks behind the end of the list that they have.
		pages = append(pages, new(page))
		t.pages.Store(&pages)
	}
	pages[i][int(number)%len(page{})].Store(s)
}

// all are the sessions there are.
func (t *sessionTable) all() iter.Seq[*session] {
	return func(yield func(*session) bool) {
		pages := t.pages.Load()
		if pages == nil {
			return
		}
		for _, p := range *pages {
			for i := range p {
				if s := p[i].Load(); s != nil && !yield(s) {
					return
				}
			}
		}
	}
}
