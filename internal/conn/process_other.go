//go:build !linux && !darwin && !freebsd

package conn

import (
	"time"

	"github.com/nylen/lockd/internal/session"
)

// processOf knows nobody.
func processOf(int) session.Process { return nil }

func program(int) (string, time.Duration, bool) { return "", 0, false }
