package command

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// stat is what /proc tells of a process.
type stat struct {
	state         byte
	parent, group int
}

func readStat(pid int) (s stat, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	// The name, in parentheses, may be anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 3 || len(fields[0]) != 1 {
		return stat{}, false
	}
	s.state = fields[0][0]
	s.parent, _ = strconv.Atoi(fields[1])
	s.group, err = strconv.Atoi(fields[2])
	return s, err == nil
}

func parentOf(pid int) (int, bool) {
	s, ok := readStat(pid)
	return s.parent, ok
}

// members returns the processes of a group that run, and whether there are
// others, which have ended and that nobody has reaped. Where /proc is missing,
// another PID namespace's, or tells of no strangers, it may return none.
func members(group int) (running []int, zombies bool) {
	if self, err := os.Readlink("/proc/self"); err != nil || self != strconv.Itoa(os.Getpid()) {
		return nil, false
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, false
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		switch s, ok := readStat(pid); {
		case !ok || s.group != group:
		case s.state == 'Z' || s.state == 'X':
			zombies = true
		default:
			running = append(running, pid)
		}
	}
	return running, zombies
}
