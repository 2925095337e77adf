package server

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machineMemory is how much memory there is for the process: the machine's, or
// what its cgroups allow, of those above it, too. 0: nobody knows.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	least := int64(0)
	if unix.Sysinfo(&info) == nil {
		least = int64(uint64(info.Totalram) * uint64(info.Unit))
	}
	if limit := cgroupMemory("/"); limit > 0 && (least == 0 || limit < least) {
		least = limit
	}
	return least
}

// cgroupMemory returns the smallest limit on memory of the process's cgroups, of
// version 1 or 2, and all above them, or 0 if there is none. What files say is
// read below root.
func cgroupMemory(root string) (least int64) {
	groups, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return 0
	}
	mounts, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(groups) {
		// 4:memory:/docker/2f..., or with version 2 0::/system.slice/lockd.service
		fields := strings.SplitN(strings.TrimRight(string(line), "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		version, file := 1, "memory.limit_in_bytes"
		if fields[0] == "0" && fields[1] == "" {
			version, file = 2, "memory.max"
		} else if !hasWord(fields[1], "memory") {
			continue
		}
		mount, within := cgroupMount(mounts, version)
		if mount == "" {
			continue
		}
		// In a container the mount may begin at its own group, and the path be told
		// from that of the host.
		path := strings.TrimPrefix(fields[2], strings.TrimSuffix(within, "/"))
		for dir := filepath.Join("/", path); ; dir = filepath.Dir(dir) {
			if n := readLimit(filepath.Join(root, mount, dir, file)); n > 0 && (least == 0 || n < least) {
				least = n
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// cgroupMount finds where the groups of memory are mounted, and what of their tree.
func cgroupMount(mounts []byte, version int) (mount, within string) {
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		// 30 23 0:26 /docker/2f... /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
		before, after, ok := strings.Cut(lines.Text(), " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(where) < 5 || len(what) < 1 {
			continue
		}
		if version == 2 && what[0] == "cgroup2" || version == 1 && what[0] == "cgroup" && hasWord(what[len(what)-1], "memory") {
			return where[4], where[3]
		}
	}
	return "", ""
}

// readLimit reads a number from a file; "max", and version 1's highest number, are
// none.
func readLimit(path string) int64 {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n >= 1<<62 {
		return 0
	}
	return n
}

func hasWord(list, word string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one == word {
			return true
		}
	}
	return false
}
