package client

import "time"

// SetClock has a Locker with these options measure the time for which it is kept by
// another clock than the machine's.
func (o *LockerOptions) SetClock(now func() time.Duration) { o.clock = now }
