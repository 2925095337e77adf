//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lost waits until a server's ledger has so much.
func lost(t *testing.T, server string, n int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if got := document(t, server, 0, "losses")["losses"].([]any); len(got) >= n {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%d losses: %v", len(got), got)
		}
	}
}

// TestLosses: what was lost, by whom and why, as a table and as JSON.
func TestLosses(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--shards", "1", "--max-locks-per-connection", "2", "--max-share", "off")
	addr := d.addr("tcp")
	if got := prints(t, addr, 0, "losses"); got != "The server knows of no losses.\n" {
		t.Errorf("of nothing: %q", got)
	}
	if got := prints(t, addr, 0, "losses", "x", "y\x1b*"); got != `The server knows of no losses of x or "y\x1b*".`+"\n" {
		t.Errorf("of nothing: %q", got)
	}
	holder, waiter := dial(t, "tcp", addr), dial(t, "tcp", addr)
	holder.ask("iam h \x1b[2J", "1 ok")
	holder.ask("g a", "1 Lock Get Success: a")
	holder.ask("sg b <\x1b>", "1 Shared Lock Get Success: b <\x1b>")
	waiter.ask("gw 1 a", "0 Lock Get Timeout: a")
	fmt.Fprintln(waiter, "gw 3600000 a")
	queued(t, addr, "a", 1)
	for range 3 {
		holder.ask("g c", "0 Too Many Locks: c")
	}
	h, w := holder.LocalAddr().String(), waiter.LocalAddr().String()
	prints(t, addr, 0, "kick", "-y", h)
	lost(t, addr, 4)
	still := func(text string) string {
		text = regexp.MustCompile(`(?m)^(AGO +)?\d+(m|s)?\b`).ReplaceAllString(still(unalign(text)), "${1}0s")
		text = regexp.MustCompile(`(held|waited) [\d.hms]+`).ReplaceAllString(text, "$1 LASTED")
		text = regexp.MustCompile(`by [\d.]+:\d+`).ReplaceAllString(text, "by KICKER")
		return regexp.MustCompile(`"(by|ago_ms|lasted_ms)":("[\d.:]+"|\d+)`).ReplaceAllString(text, `"$1":0`)
	}
	header := "AGO NAME KIND LOST WHY ADDR CLIENT DETAILS\n"
	b := `0s "b <\x1b>" shared held LASTED kick ` + h + ` "h \x1b[2J" by KICKER` + "\n"
	a := `0s a exclusive held LASTED kick ` + h + ` "h \x1b[2J" by KICKER, 1 waited: ` + w + "\n"
	c := "0s c exclusive 3 requests refused " + h + ` "h \x1b[2J" too_many_locks_of_owner` + "\n"
	timeout := "0s a exclusive waited LASTED wait_timeout " + w + ` - held by "h \x1b[2J"` + "\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, header + b + a + c + timeout},
		{[]string{"-n", "2"}, header + b + a},
		{[]string{"-l", "b*", "c"}, strings.Replace(header, "WHY", "TOKEN/COUNT WHY", 1) +
			strings.Replace(b, "kick", "1 kick", 1) + strings.Replace(c, "requests ", "requests - ", 1)},
		{[]string{"-l", "-n1", "a"}, strings.Replace(header, "WHY", "TOKEN/COUNT WHY", 1) + strings.Replace(a, "kick", "TOKEN kick", 1)},
		{[]string{"a"}, header + a + timeout},
		{[]string{"a", "-n1"}, header + a},
		{[]string{"c", "a", "a"}, header + a + c + timeout},
		{[]string{"b*", "c"}, header + b + c},
		{[]string{"--empty-name", ""}, "The server knows of no losses of \"\".\n"},
	} {
		if got := still(prints(t, addr, 0, append([]string{"losses"}, test.args...)...)); got != test.want {
			t.Errorf("%q: got\n%s, want\n%s", test.args, got, test.want)
		}
	}
	var got, want any
	if err := json.Unmarshal([]byte(still(prints(t, addr, 0, "losses", "a", "-n", "1", "--json"))), &got); err != nil {
		t.Fatal(err)
	}
	err := json.Unmarshal([]byte(`{"losses":[{"name":"a","seq":3,"kind":"exclusive","lost":"held","why":"kick","ago_ms":0,"lasted_ms":0,"token":9,"count":0,
		"addr":"`+h+`","client":"h \u001b[2J","identity":"","process":null,"times":0,"more":0,"bound":"","by":0,"holder":"","waiting":1,"waiters":["`+w+`"]}]}`), &want)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprint(got), fmt.Sprint(want); a != b {
		t.Errorf("got %s, want %s", a, b)
	}
}

// TestLossesOfMany: of a client with very many locks there is a number.
func TestLossesOfMany(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	holder := dial(t, "tcp", addr)
	var lines strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&lines, "g %d\n", i)
	}
	go fmt.Fprint(holder, lines.String())
	for range 1200 {
		if _, err := holder.in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	holder.Close()
	lost(t, addr, 100)
	var out string
	for end := time.Now().Add(patience); !strings.Contains(out, "(200 more)") && time.Now().Before(end); {
		out = unalign(prints(t, addr, 0, "losses", "-n", "1"))
	}
	if !strings.Contains(out, "s (200 more) exclusive held disconnect "+holder.LocalAddr().String()+" - -\n") {
		t.Errorf("got %q", out)
	}
	if n := strings.Count(prints(t, addr, 0, "losses", "-n", "100000"), "\n"); n != 1+1000+1 {
		t.Errorf("%d lines", n)
	}
}

// TestLossesOfTheKilled: a program that was killed has lost its lock, and over a unix
// socket it is known which it was.
func TestLossesOfTheKilled(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "--admin", "off")
	for _, server := range []string{d.addr("tcp"), "unix://" + dir + "/s"} {
		cmd := exec.Command(binary, "shell", "-s", server)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(in, "g "+server)
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if code, _, _ := run("inspect", server, "-s", d.addr("tcp")); code == 0 {
				break
			} else if time.Now().After(end) {
				t.Fatal("it holds nothing")
			}
		}
		cmd.Process.Signal(syscall.SIGKILL)
		cmd.Wait()
		var out string
		for end := time.Now().Add(patience); !strings.Contains(out, " disconnect ") && time.Now().Before(end); {
			out = unalign(prints(t, d.addr("tcp"), 0, "losses", server))
		}
		if !strings.Contains(out, "s "+server+" exclusive held ") || !strings.Contains(out, " disconnect ") {
			t.Errorf("got %q", out)
		}
		if strings.HasPrefix(server, "unix:") && !strings.Contains(out, " uid ") {
			t.Logf("this system does not tell: %q", out)
		}
	}
}

// TestLossesFollow: those that there are, and those that come, the latest last, until
// it is interrupted.
func TestLossesFollow(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	lose := func(names ...string) {
		c := dial(t, "tcp", addr)
		for _, n := range names {
			c.ask("g "+n, "1 Lock Get Success: "+n)
		}
		c.Close()
	}
	lose("a")
	lost(t, addr, 1)
	for _, json := range []bool{false, true} {
		args := []string{"losses", "-f", "-s", addr, "a", "x*"}
		if json {
			args = append(args, "--json")
		}
		out := startPrinting(t, args...)
		if !json {
			if line := out.line(); !strings.HasPrefix(line, "TIME ") {
				t.Errorf("got %q", line)
			}
		}
		want := func(name string) {
			t.Helper()
			line := out.line()
			if json && !strings.HasPrefix(line, `{"name":"`+name+`",`) || !json && !strings.Contains(line, "  "+name+"  ") {
				t.Errorf("got %q, want %s", line, name)
			}
		}
		want("a")
		if json {
			want("x1")
			want("a")
		}
		lose("b", "other")
		lose("x1")
		want("x1")
		lose("a")
		want("a")
		out.cmd.Process.Signal(syscall.SIGINT)
		if err := out.cmd.Wait(); err != nil {
			t.Errorf("it ends with %v", err)
		}
	}
}

// TestLossesFail: what servers say that do not tell, and what makes no sense.
func TestLossesFail(t *testing.T) {
	t.Parallel()
	disabled := start(t, nil, "-t", anyPort, "--admin", "off", "--disable-dump").addr("tcp")
	for server, want := range map[string]string{
		disabled:      "disabled: the server was started with --disable-dump",
		glockdLike(t): "the server is too old to tell what was lost",
	} {
		for _, args := range [][]string{{"losses"}, {"losses", "x"}, {"losses", "-f"}} {
			code, stdout, stderr := run(append(args, "-s", server)...)
			if code != 69 || strings.Contains(stdout, "losses") || !strings.Contains(stderr, want) {
				t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
			}
		}
	}
	for _, args := range [][]string{{"-n", "0"}, {"-n", "100001"}, {"-n", "-1"}, {"-n", "x"}, {""}, {"a\nb"}} {
		code, _, stderr := run(append([]string{"losses", "-s", disabled}, args...)...)
		if code != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}

// TestLogLosses: the log has them if it is asked to.
func TestLogLosses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--log-losses"}, {"--log-losses", "--log-format", "json"}} {
		path := short(t) + "/s"
		d := start(t, nil, append([]string{"--unix", path, "--admin", "off"}, args...)...)
		c := dial(t, "unix", path)
		c.ask(`g x "y"`, `1 Lock Get Success: x "y"`)
		c.Close()
		line := d.line()
		want := `msg="lock lost" why=disconnect kind=exclusive lock="x \"y\"" token=`
		if len(args) > 1 {
			want = `"msg":"lock lost","why":"disconnect","kind":"exclusive","lock":"x \"y\"","token":`
		}
		if !strings.Contains(line, want) {
			t.Errorf("got %q, want %s", line, want)
		}
	}
}
