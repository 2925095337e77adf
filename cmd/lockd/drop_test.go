package main_test

import (
	"strings"
	"testing"
)

func TestDrop(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	c := dial(t, "tcp", addr)
	for _, name := range []string{"a b", "c"} {
		c.ask("rl 1 86400000 1 "+name, "1 Rate Allowed: "+name)
		c.ask("ri 1 86400000 "+name, "0 Rate Open: "+name)
	}
	if got := prints(t, addr, 0, "drop", " a  b", "c"); got != "dropped a b\ndropped c\n" {
		t.Errorf("got %q", got)
	}
	c.ask("ri 1 86400000 a b", "1 Rate Open: a b")
	c.ask("rl 1 86400000 1 c", "1 Rate Allowed: c")
	code, stdout, stderr := run("drop", "-s", addr, "--json", "c", "d\x1b")
	if code != 1 || stdout != `{"dropped":["c"],"missing":["d\u001b"]}`+"\n" || stderr != `lockd: no such rate: "d\x1b"`+"\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	code, _, stderr = run("drop", "-s", glockdLike(t), "a")
	if code != 69 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "too old to drop rates") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, args := range [][]string{{"drop"}, {"drop", ""}, {"drop", "a\nb"}} {
		if code, _, stderr := run(args...); code != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "<name>") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}
