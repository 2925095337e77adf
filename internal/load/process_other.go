//go:build !linux

package load

import (
	"errors"
	"time"
)

// process is another process that is watched; here none can be.
type process struct{}

func watchProcess(pid int) (*process, error) {
	if pid != 0 {
		return nil, errors.New("watching the server's process works on Linux only")
	}
	return nil, nil
}

func (*process) cpu() time.Duration { return 0 }
func (*process) rss() int64         { return 0 }

// RSS returns a process's resident bytes, or 0 if that cannot be told.
func RSS(pid int) int64 { return 0 }

func ownCPU() time.Duration { return 0 }
