package server

import (
	"os"
	"path/filepath"
	"testing"
)

// The limit of a container is found: of either version of cgroups, the smallest on
// the way up, seen from the host and from within.
func TestCgroupMemory(t *testing.T) {
	const (
		v2mount = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		v1mount = "33 32 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n35 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
		// Docker with version 1: the group's own directory is what is mounted.
		inside = "35 32 0:30 /docker/2f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
		none   = "9223372036854771712\n"
	)
	for name, c := range map[string]struct {
		groups, mounts string
		files          map[string]string
		want           int64
	}{
		"no cgroups": {want: 0},
		"version 2": {"0::/system.slice/lockd.service\n", v2mount, map[string]string{
			"sys/fs/cgroup/system.slice/lockd.service/memory.max": "1000000\n",
			"sys/fs/cgroup/system.slice/memory.max":               "max\n",
		}, 1000000},
		"version 2, a smaller one above": {"0::/a/b/c\n", v2mount, map[string]string{
			"sys/fs/cgroup/a/b/c/memory.max": "3000\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "2000\n",
		}, 2000},
		"version 2, none":           {"0::/a\n", v2mount, map[string]string{"sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"version 2, in a namespace": {"0::/\n", v2mount, map[string]string{"sys/fs/cgroup/memory.max": "5000\n"}, 5000},
		"version 1": {"11:cpu,cpuacct:/x\n9:memory:/a/b\n0::/other\n", v1mount, map[string]string{
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": none, "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "7000\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": none,
		}, 7000},
		"version 1, within a container": {"9:memory:/docker/2f\n", inside, map[string]string{
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "8000\n",
		}, 8000},
		"nonsense": {"x\n9:memory\n0::\n", "\n1 2 3\n" + v2mount, map[string]string{"sys/fs/cgroup/memory.max": "lots\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			files := map[string]string{}
			if c.mounts != "" {
				files["proc/self/cgroup"], files["proc/self/mountinfo"] = c.groups, c.mounts
			}
			for path, text := range c.files {
				files[path] = text
			}
			for path, text := range files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := cgroupMemory(root); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	if n := machineMemory(); n < 64<<20 {
		t.Errorf("this machine has %d bytes", n)
	}
}
