package shard

// OldestWait returns for how long, in milliseconds, the one who has waited for
// longest of all who wait has done so, at a time in nanoseconds; 0 if nobody waits.
// It looks at all of them, some at a time, so it is not for every request.
func (t *Set) OldestWait(now uint64) (oldest uint64) {
	if t.waiting.Load() == 0 {
		return 0
	}
	for i := range t.shards {
		s := &t.shards[i]
		for from, more := uint32(1), true; more; {
			s.mu.Lock()
			end := s.waiters.end()
			upTo := min(end, from+looks)
			for ; from < upTo; from++ {
				if !s.waiters.chunkOf(from) {
					from += chunkItems - 1 - (from-1)%chunkItems
					continue
				}
				if wt := s.waiters.at(from); wt.came != 0 && wt.state == queued {
					oldest = max(oldest, wt.since.Age(now))
				}
			}
			more = from < end
			s.mu.Unlock()
		}
	}
	return oldest
}
