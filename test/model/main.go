package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

func main() {
	flag.Usage = usage
	all := flag.Bool("all", false, "the long ones, too")
	weak := flag.String("weak", "", "weaken these rules in all that is run, such as doubt,nogen")
	most := flag.Int("max", 0, "stop at so many states")
	long := flag.Duration("for", 0, "stop each after this time")
	trace := flag.Bool("trace", false, "print traces of what has to be found, too")
	counts := flag.Bool("count", false, "print how often each kind of step was taken, of every 16th state")
	flag.Parse()
	if flag.Arg(0) == "list" {
		list(os.Stdout)
		return
	}
	cs, err := choice(flag.Args(), *all, *weak, *most)
	if err != nil {
		fmt.Fprintln(os.Stderr, "model:", err)
		os.Exit(2)
	}
	bad := 0
	for i := range cs {
		cs[i].For = *long
		if !run(os.Stdout, &cs[i], *trace, *counts) {
			bad++
		}
	}
	if bad > 0 {
		fmt.Printf("%d of %d are not as they have to be\n", bad, len(cs))
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(os.Stderr, `The rules of lockd's cluster, played through in all ways, see go doc.

	go run . list          what there is
	go run .               the quick ones: some that must hold, and all weakened rules
	go run . -all          all
	go run . NAME...       these, or all that begin with NAME-: lease, e2e, shared, three, w
	go run . -weak RULE NAME

`)
	flag.PrintDefaults()
}

func choice(names []string, all bool, weak string, most int) ([]Config, error) {
	var cs []Config
	if len(names) > 0 {
		if cs = chosen(names); len(cs) == 0 {
			return nil, fmt.Errorf("nothing is named %s, see go run . list", strings.Join(names, " "))
		}
	} else {
		for _, c := range configs() {
			if all || !c.Long {
				cs = append(cs, c)
			}
		}
	}
	w, err := parseWeak(weak)
	for i := range cs {
		if w != 0 {
			cs[i].Weak |= w
			cs[i].Want = "P"
		}
		if most > 0 {
			cs[i].Max = most
		}
	}
	return cs, err
}

func list(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	defer w.Flush()
	for _, c := range configs() {
		set, want := "quick", "holds"
		if c.Long {
			set = "long"
		}
		if c.Want != "" {
			want = "must be caught"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Name, set, want, c.Why)
	}
}

// asWanted tells whether a run has found what it had to.
func asWanted(c *Config, r Result) bool {
	if c.Want == "" {
		return r.Wrong == "" && !r.Cut
	}
	return strings.HasPrefix(r.Wrong, c.Want)
}

func run(out io.Writer, c *Config, trace, counts bool) bool {
	r := explore(c)
	ok := asWanted(c, r)
	what := "holds, complete"
	switch {
	case r.Wrong != "":
		what = r.Wrong
	case r.Cut:
		what = "CUT OFF, nothing found until there"
	}
	sign := "ok  "
	switch {
	case r.Cut && c.Want == "":
		sign, ok = "cut ", true // which says neither
	case !ok:
		sign = "BAD "
	}
	fmt.Fprintf(out, "%s %-22s %10d states %11d steps, depth %3d, %6.1fs: %s\n", sign, c.Name, r.States, r.Steps, r.Depth, r.Took.Seconds(), what)
	if trace || !ok {
		for _, l := range r.Trace {
			fmt.Fprintln(out, "      ", l)
		}
	}
	if counts {
		for what, n := range r.Count {
			fmt.Fprintf(out, "      %9d %s\n", n, what)
		}
	}
	return ok
}
