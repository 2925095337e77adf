package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/nylen/lockd/internal/load"
)

func throughput(r load.Report) float64 { return r.Throughput }
func serverCPU(r load.Report) float64  { return r.ServerCPU }
func p99(r load.Report) float64        { return r.Latency.P99 }

// median returns the middle value of a figure over the rounds.
func median(rs []load.Report, figure func(load.Report) float64) float64 {
	var all []float64
	for _, r := range rs {
		all = append(all, figure(r))
	}
	return middle(all)
}

func middle(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
}

func (c *compare) printClosed(results map[cell][]load.Report) {
	fmt.Printf("Medians of %s of %v. A core for the server (one thread), another for the load generator,\n"+
		"`lockd bench`; TCP over 127.0.0.1; get and release of one of 100,000 names of %d bytes in turn (Redis: `SET NX` and\n"+
		"`DEL`, memcached: `add` and `delete`). In brackets: as a multiple of lockd's. A short connection is made, gets one\n"+
		"lock of a new name, and is closed by the client, which in lockd ends the lock, too; p99 is from connecting to the\n"+
		"reply.\n\n", load.Plural(c.rounds, "round"), c.duration, nameSize)

	if len(c.noise) > 0 {
		slices.Sort(c.noise)
		fmt.Printf("Meanwhile other programs took %.0f %% of the machine (median; %.0f %% at worst).\n\n",
			c.noise[len(c.noise)/2], c.noise[len(c.noise)-1])
	}
	head, rule := "| load | measure |", "|---|---|"
	for _, k := range c.kinds {
		head += " " + k.name + " |"
		rule += "---:|"
	}
	fmt.Println(head)
	fmt.Println(rule)
	for i, sh := range shapes {
		for j, f := range []struct {
			name   string
			figure func(load.Report) float64
			format func(float64) string
		}{
			{sh.unit() + "s/s", throughput, func(v float64) string { return group(v) }},
			{"server CPU, us/" + sh.unit(), serverCPU, func(v float64) string { return fmt.Sprintf("%.3g", v) }},
			{"p99, us", p99, func(v float64) string { return group(v) }},
		} {
			row := "| |"
			if j == 0 {
				row = "| " + sh.label + " |"
			}
			row += " " + f.name + " |"
			ours := median(results[cell{c.kinds[0], i, 0}], f.figure)
			for n, k := range c.kinds {
				rs := results[cell{k, i, 0}]
				switch v := median(rs, f.figure); {
				case rs == nil:
					row += " |"
				case n == 0:
					row += fmt.Sprintf(" %s |", f.format(v))
				default:
					row += fmt.Sprintf(" %s (%.2f) |", f.format(v), v/ours)
				}
			}
			fmt.Println(row)
		}
	}
}

func (c *compare) printOpen(open []*openRow) {
	fmt.Printf("\nOpen loop, 50 connections: requests are sent at a fixed rate, and latencies count from when they were due.\n\n")
	fmt.Println("| server | rate | requests/s | p50, us | p99, us | p99.9, us |")
	fmt.Println("|---|---|---:|---:|---:|---:|")
	for _, row := range open {
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", row.kind.name, row.what, group(median(row.all, throughput)),
			group(median(row.all, func(r load.Report) float64 { return r.Latency.P50 })), group(median(row.all, p99)),
			group(median(row.all, func(r load.Report) float64 { return r.Latency.P999 })))
	}
}

func (c *compare) printMemory(mems []*memory) {
	fmt.Printf("\nResident memory (RSS), in bytes; %s connections, locks with names of %d bytes.\n\n", group(float64(c.idle)), nameSize)
	head, rule := "| |", "|---|"
	for _, m := range mems {
		head += " " + m.kind.name + " |"
		rule += "---:|"
	}
	fmt.Println(head)
	fmt.Println(rule)
	line := func(label string, figure func(*memory) float64) {
		row := "| " + label + " |"
		for i, m := range mems {
			v := figure(m)
			row += " " + group(v)
			if i > 0 {
				row += fmt.Sprintf(" (%.2f)", v/figure(mems[0]))
			}
			row += " |"
		}
		fmt.Println(row)
	}
	line("a connection that was never used", func(m *memory) float64 { return m.fresh })
	line("a connection that asked once", func(m *memory) float64 { return m.used })
	for i, n := range c.held {
		line(fmt.Sprintf("a held lock, of %s", group(float64(n))), func(m *memory) float64 { return m.held[i] })
	}
	line("the server by itself", func(m *memory) float64 { return float64(m.resting) })
	g, most := mems[0].garbage, c.held[len(c.held)-1]
	fmt.Printf("\nThen, with %s locks held and %s requests a second for %v: since its start, lockd's garbage collector has run\n"+
		"%s and taken %.0f %% of the processor, and its longest pause was %.2f ms (gctrace).\n",
		group(float64(most)), group(mems[0].load.Throughput), c.duration, load.Plural(g.cycles, "time"), g.percent, g.longest)
}

// machine describes what was measured where.
func (c *compare) machine() string {
	cpu := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(info), "model name\t: "); ok {
			cpu, _, _ = strings.Cut(rest, "\n")
		}
	}
	var u syscall.Utsname
	kernel := ""
	if syscall.Uname(&u) == nil {
		for _, b := range u.Release {
			if b == 0 || b == '-' { // what follows is the build's
				break
			}
			kernel += string(rune(b))
		}
	}
	said := func(program string, args ...string) string {
		out, _ := exec.Command(program, args...).Output()
		return strings.TrimSpace(string(out))
	}
	lines := []string{fmt.Sprintf("Machine: %s, %s, Linux %s, %s.", cpu, load.Plural(runtime.NumCPU(), "core"), kernel, runtime.Version())}
	versions := []string{said(c.dir+"/lockd", "version")}
	for _, k := range c.kinds {
		switch v := strings.Fields(said(k.program, "--version")); {
		case k.name == "Redis" && len(v) > 2:
			versions = append(versions, "Redis "+strings.TrimPrefix(v[2], "v="))
		case k.name == "memcached" && len(v) > 1:
			versions = append(versions, "memcached "+v[1])
		}
	}
	lines = append(lines, "Servers: "+strings.Join(versions, ", ")+".")
	return strings.Join(lines, "\n")
}

// group writes a figure as a whole number with commas.
func group(v float64) string { return load.Group(int64(math.RoundToEven(v))) }
