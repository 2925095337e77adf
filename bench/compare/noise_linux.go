package main

import (
	"fmt"
	"os"
	"strings"
)

// Noise is what other programs took from the cores while a measurement went
// on: figures from a busy machine are worth little, and the reader shall know.

// ticks is the unit of /proc, in a second.
const ticks = 100

// cpuTicks is what all cores did so far.
type cpuTicks struct{ busy, total float64 }

func (t cpuTicks) since(u cpuTicks) (busy, total float64) { return t.busy - u.busy, t.total - u.total }

func allTicks() (t cpuTicks) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return t
	}
	var n [8]float64 // user nice system idle iowait irq softirq steal
	fmt.Sscanf(string(stat), "cpu %f %f %f %f %f %f %f %f", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7])
	for i, v := range n {
		t.total += v
		if i != 3 && i != 4 {
			t.busy += v
		}
	}
	return t
}

// ownTicks returns the CPU time of a process.
func ownTicks(pid int) int64 {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field, in brackets, may hold anything; utime and stime are
	// the 12th and 13th behind it.
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if len(f) > 12 {
		fmt.Sscan(f[11], &user)
		fmt.Sscan(f[12], &system)
	}
	return user + system
}
