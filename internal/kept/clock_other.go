//go:build !linux && !darwin

package kept

import "time"

var begun = time.Now()

// Now is a clock that never goes back: Go's own, which on Windows goes on while the
// machine sleeps.
func Now() time.Duration { return skewed(time.Since(begun)) }
