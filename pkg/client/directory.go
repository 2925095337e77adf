package client

import (
	"iter"
	"sync/atomic"
)

// A directory finds slots by number. Whoever puts slots in and takes them out
// holds the link's mutex; the goroutine that reads looks them up without.
type directory struct {
	pages atomic.Pointer[[]*page]
}

type page [256]atomic.Pointer[slot]

// get returns the slot with this number, or nil.
func (d *directory) get(number int64) *slot {
	pages := d.pages.Load()
	if pages == nil || number/int64(len(page{})) >= int64(len(*pages)) {
		return nil
	}
	return (*pages)[number/int64(len(page{}))][number%int64(len(page{}))].Load()
}

// set puts a slot in, or takes it out with nil. Numbers are used from 0 on,
// without a gap.
func (d *directory) set(number uint32, s *slot) {
	var pages []*page
	if p := d.pages.Load(); p != nil {
		pages = *p
	}
	i := int(number) / len(page{})
	if i == len(pages) {
		// Nobody looks behind the end of the list that they have.
		pages = append(pages, new(page))
		d.pages.Store(&pages)
	}
	pages[i][int(number)%len(page{})].Store(s)
}

// all are the slots there are.
func (d *directory) all() iter.Seq[*slot] {
	return func(yield func(*slot) bool) {
		pages := d.pages.Load()
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
