package kept

import "time"

// rate is how fast Now goes.
var rate = 1.0

// Skew has Now go so many times as fast as the machine's clock, as that of another machine
// may. It is for tests, and before anything else is done.
func Skew(by float64) { rate = by }

func skewed(t time.Duration) time.Duration {
	if rate == 1 {
		return t
	}
	return time.Duration(float64(t) * rate)
}
