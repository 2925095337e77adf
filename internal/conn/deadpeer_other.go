//go:build !linux && !darwin

package conn

import "time"

// hear knows nothing here, and there is nothing but keep-alive.
func hear(int) (heard, bool) { return heard{}, false }

func boundRetries(int, time.Duration) {}
