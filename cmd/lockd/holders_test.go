//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestInspect: held is the exclusive or the shared lock, or the one that was
// asked for; who holds and waits is told in the order of their turn.
func TestInspect(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	holder, second, third := dial(t, "tcp", addr), dial(t, "tcp", addr), dial(t, "tcp", addr)
	holder.ask("iam h \x1b[2J", "1 ok")
	second.ask("iam second", "1 ok")
	holder.ask("g both", "1 Lock Get Success: both")
	holder.ask("sg both", "1 Shared Lock Get Success: both")
	holder.ask("g exclusive", "1 Lock Get Success: exclusive")
	second.ask("sg shared", "1 Shared Lock Get Success: shared")
	third.ask("sg shared", "2 Shared Lock Get Success: shared")
	second.ask("rl 3 3600000 1 both", "3 Rate Allowed: both")
	fmt.Fprintln(second, "gw 3600000 both")
	queued(t, addr, "both", 1)
	fmt.Fprintln(third, "sgw 1 3600000 both")
	queued(t, addr, "both", 2)
	fourth := dial(t, "tcp", addr)
	fmt.Fprintln(fourth, "gw 3600000 both")
	queued(t, addr, "both", 3)
	h, s2, s3, s4 := holder.LocalAddr().String(), second.LocalAddr().String(), third.LocalAddr().String(), fourth.LocalAddr().String()

	table := "\nKIND STATE SINCE ADDR HOLDER\n"
	exclusive := "exclusive held 0s " + h + ` "h \x1b[2J"` + "\nexclusive waits 1 0s " + s2 + " second\nexclusive waits 2 0s " + s4 + " -\n"
	shared := "shared held 0s " + h + ` "h \x1b[2J"` + "\nshared waits 1, limit 1 0s " + s3 + " -\n"
	for _, server := range []string{addr, "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		for _, test := range []struct {
			args string
			code int
			want string
		}{
			{"both", 0, "exclusive: held, token TOKEN, 2 wait\nshared: held by 1, 1 waits\nrate: 2 open, all of it in RATE\n" + table + exclusive + shared},
			{"both --exclusive", 0, "exclusive: held, token TOKEN, 2 wait\n" + table + exclusive},
			{"both --shared", 0, "shared: held by 1, 1 waits\n" + table + shared},
			{"exclusive --shared", 1, "shared: free\n"},
			{"shared --exclusive", 1, "exclusive: free\n"},
			{"shared", 0, "exclusive: free\nshared: held by 2\n" + table + "shared held 0s " + s2 + " second\nshared held 0s " + s3 + " -\n"},
			{"none", 1, "exclusive: free\nshared: free\n"},
		} {
			args := append([]string{"inspect"}, strings.Fields(test.args)...)
			got := still(unalign(prints(t, server, test.code, args...)))
			got = strings.Replace(got, "in 20m0s", "in RATE", 1)
			got = strings.Replace(got, "in 19m59s", "in RATE", 1)
			if !strings.Contains(got, "in RATE") && strings.Contains(test.want, "RATE") {
				t.Logf("the rate: %q", got) // it has taken so long
			} else if got != test.want {
				t.Errorf("%s: got\n%s, want\n%s", test.args, got, test.want)
			}
			// JSON has it all, whatever was asked; held is the exit code.
			document := document(t, server, test.code, args...)
			if document["held"] != (test.code == 0) {
				t.Errorf("%s --json: held is %v", test.args, document["held"])
			}
		}
	}

	var got any
	if err := json.Unmarshal([]byte(still(prints(t, addr, 0, "inspect", "both", "--json"))), &got); err != nil {
		t.Fatal(err)
	}
	rate := got.(map[string]any)["rate"].(map[string]any)
	if in := rate["all_open_in_ms"].(float64); in <= 0 || in > 1200000 {
		t.Errorf("all_open_in_ms: %v", in)
	}
	delete(rate, "all_open_in_ms")
	var want any
	err := json.Unmarshal([]byte(`{"name":"both","held":true,"look":true,"rate":{"limited":false,"open":2},
		"exclusive":{"held":true,
			"holders":[{"state":"held","token":9,"addr":"`+h+`","name":"h \u001b[2J","since_ms":0,"process":null}],
			"waiting":[{"place":1,"limit":0,"addr":"`+s2+`","name":"second","since_ms":0,"process":null},
				{"place":2,"limit":0,"addr":"`+s4+`","name":"`+s4+`","since_ms":0,"process":null}]},
		"shared":{"held":true,"count":1,
			"holders":[{"state":"held","token":0,"addr":"`+h+`","name":"h \u001b[2J","since_ms":0,"process":null}],
			"waiting":[{"place":1,"limit":1,"addr":"`+s3+`","name":"`+s3+`","since_ms":0,"process":null}]}}`), &want)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestInspectWithoutLook: what servers tell that are too old, or that tell
// nobody.
func TestInspectWithoutLook(t *testing.T) {
	t.Parallel()
	disabled := start(t, nil, "-t", anyPort, "--admin", "off", "--disable-dump").addr("tcp")
	c := dial(t, "tcp", disabled)
	c.ask("g a", "1 Lock Get Success: a")
	c.ask("sg b", "1 Shared Lock Get Success: b")
	why := "(who holds it and who waits is not told: the server was started with --disable-dump)\n"
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"a", 0, "exclusive: held\nshared: free\n"},
		{"a --shared", 1, "shared: free\n"},
		{"b", 0, "exclusive: free\nshared: held by 1\n"},
		{"b --exclusive", 1, "exclusive: free\n"},
		{"c", 1, "exclusive: free\nshared: free\n"},
	} {
		args := append([]string{"inspect"}, strings.Fields(test.args)...)
		if got := unalign(prints(t, disabled, test.code, args...)); got != test.want+why {
			t.Errorf("%s: got %q, want %q", test.args, got, test.want+why)
		}
	}
	if got, want := prints(t, disabled, 0, "inspect", "b", "--json"), `{"name":"b","held":true,"exclusive":{"held":false,"holders":[],"waiting":[]},`+
		`"shared":{"held":true,"count":1,"holders":[],"waiting":[]},"rate":null,"look":false}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestInspectOnAnOldServer: it tells by whom. The shared lock c is one that it
// says nobody holds, to the one that asks for a count.
func TestInspectOnAnOldServer(t *testing.T) {
	t.Parallel()
	old := glockdLike(t)
	why := "(the server is too old to tell since when, and who waits)\n"
	table := "\nKIND STATE SINCE ADDR HOLDER\n"
	for _, test := range []struct {
		args string
		code int
		want string
	}{
		{"a", 0, "exclusive: held\nshared: free\n" + why + table + "exclusive held - - worker: 7\n"},
		{"a --shared", 1, "shared: free\n" + why},
		{"b", 0, "exclusive: free\nshared: held by 1\n" + why + table + "shared held - - 10.0.0.7:51234\n"},
		{"b --exclusive", 1, "exclusive: free\n" + why},
		{"c", 0, "exclusive: free\nshared: held by 2\n" + why + table + "shared held - - x\nshared held - - y\n"},
		{"d", 1, "exclusive: free\nshared: free\n" + why},
	} {
		args := append([]string{"inspect"}, strings.Fields(test.args)...)
		if got := unalign(prints(t, old, test.code, args...)); got != test.want {
			t.Errorf("%s: got %q, want %q", test.args, got, test.want)
		}
	}
	if got, want := prints(t, old, 0, "inspect", "b", "--json"), `{"name":"b","held":true,"exclusive":{"held":false,"holders":[],"waiting":[]},`+
		`"shared":{"held":true,"count":1,"holders":[{"state":"held","token":0,"addr":"","name":"10.0.0.7:51234","since_ms":0,"process":null}],"waiting":[]},`+
		`"rate":null,"look":false}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// glockdLike is an older server with an exclusive lock a and a shared lock b. Of
// WebSocket's and TCP's older servers it has what lists need.
func glockdLike(t *testing.T) string {
	t.Helper()
	return script(t, func() func(string) (string, bool) {
		return func(line string) (string, bool) {
			verb, name, _ := strings.Cut(strings.TrimSpace(line), " ")
			name = strings.TrimSpace(name)
			switch {
			case verb == "i" && name == "a":
				return "1 Lock Is Locked: a\n", false
			case verb == "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case verb == "si" && name == "b":
				return "1 Shared Lock Is Locked: b\n", false
			case verb == "si":
				return "0 Shared Lock Not Locked: " + name + "\n", false
			case verb == "d" && (name == "" || name == "a"):
				return "a: worker: 7\n", false
			case verb == "sd" && (name == "" || name == "b"):
				return "b: 10.0.0.7:51234\n", false
			case verb == "sd" && name == "c":
				return "c: x\nc: y\n", false
			}
			return "", false
		}
	})
}

func TestDump(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	c, other := dial(t, "tcp", addr), dial(t, "tcp", addr)
	me, you := c.LocalAddr().String(), other.LocalAddr().String()
	other.ask("iam worker 7", "1 ok")
	for _, name := range []string{"", "build \x1b[31m", "build 2", "builder", "caf\u00e9 \u65e5"} {
		c.ask("g "+name, "1 Lock Get Success: "+name)
	}
	c.ask("sg pool", "1 Shared Lock Get Success: pool")
	other.ask("sg pool", "2 Shared Lock Get Success: pool")
	c.ask("rl 1 3600000 1 pool", "1 Rate Allowed: pool")
	fmt.Fprintln(other, "gw 3600000 builder")
	queued(t, addr, "builder", 1)

	header := "NAME KIND SINCE ADDR HOLDER\n"
	empty := `"" exclusive 0s ` + me + " -\n"
	builds := `"build \x1b[31m" exclusive 0s ` + me + " -\nbuild 2 exclusive 0s " + me + " -\n"
	builder := "builder exclusive 0s " + me + " -\n"
	pool := "pool shared 0s " + me + " -\npool shared 0s " + you + " worker 7\n"
	for _, server := range []string{addr, "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		for _, test := range []struct {
			args []string
			want string
		}{
			{nil, header + empty + builds + builder + "caf\u00e9 \u65e5 exclusive 0s " + me + " -\n" + pool},
			{[]string{"build *"}, header + builds},
			{[]string{"build*"}, header + builds + builder},
			{[]string{"build*", "builder", "b*", "pool"}, header + builds + builder + pool}, // each once
			{[]string{"pool"}, header + pool},
			{[]string{"pool", "builder"}, header + builder + pool},
			{[]string{"", "--empty-name"}, header + empty},
			{[]string{"none"}, header},
			{[]string{"none*"}, header},
			{[]string{"-l", "pool", "builder"}, "NAME KIND STATE SINCE TOKEN/COUNT ADDR HOLDER PROCESS\n" +
				"builder exclusive held 0s TOKEN " + me + " - -\n" +
				"builder exclusive waits 1 0s - " + you + " worker 7 -\n" +
				"pool rate limited in RATE 0 - - -\n" +
				"pool shared held 0s 2 " + me + " - -\n" +
				"pool shared held 0s 2 " + you + " worker 7 -\n"},
		} {
			got := still(unalign(prints(t, server, 0, append([]string{"dump"}, test.args...)...)))
			for _, in := range []string{"1h0m", "59m59s", "59m58s", "59m57s", "59m56s", "59m55s"} {
				got = strings.Replace(got, "limited in "+in, "limited in RATE", 1)
			}
			if got != test.want {
				t.Errorf("%s %q: got\n%s, want\n%s", server, test.args, got, test.want)
			}
		}
	}

	// JSON: what inspect says of each name, sorted.
	var all struct {
		Look  bool
		Locks []map[string]any
	}
	if err := json.Unmarshal([]byte(prints(t, addr, 0, "dump", "--json")), &all); err != nil {
		t.Fatal(err)
	}
	want := []string{"", "build \x1b[31m", "build 2", "builder", "caf\u00e9 \u65e5", "pool"}
	if len(all.Locks) != len(want) || !all.Look {
		t.Fatalf("%v", all)
	}
	for i, lock := range all.Locks {
		if lock["name"] != want[i] {
			t.Errorf("lock %d is %q, want %q", i, lock["name"], want[i])
		}
	}
	waiting := all.Locks[3]["exclusive"].(map[string]any)["waiting"].([]any)
	if len(waiting) != 1 || waiting[0].(map[string]any)["name"] != "worker 7" {
		t.Errorf("builder: %v", all.Locks[3])
	}
}

// TestDumpOfAnOldServer: it tells by whom, and no more.
func TestDumpOfAnOldServer(t *testing.T) {
	t.Parallel()
	server := glockdLike(t)
	header := "NAME KIND SINCE ADDR HOLDER\n"
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, header + "a: worker exclusive - - 7\nb shared - - 10.0.0.7:51234\n"}, // as the help says
		{[]string{"a"}, header + "a exclusive - - worker: 7\n"},
		{[]string{"b*"}, header + "b shared - - 10.0.0.7:51234\n"},
		{[]string{"-l", "b"}, "NAME KIND STATE SINCE TOKEN/COUNT ADDR HOLDER PROCESS\nb shared held - 1 - 10.0.0.7:51234 -\n"},
	} {
		if got := unalign(prints(t, server, 0, append([]string{"dump"}, test.args...)...)); got != test.want {
			t.Errorf("%q: got %q, want %q", test.args, got, test.want)
		}
	}
	if got := prints(t, server, 0, "dump", "b", "--json"); !strings.HasPrefix(got, `{"look":false,"locks":[{"name":"b","held":true,`) {
		t.Errorf("got %s", got)
	}
}

// TestDumpShowsTheProcess: of who came over a unix socket, if the system says.
func TestDumpShowsTheProcess(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	start(t, nil, "--unix", path, "--admin", "off")
	dial(t, "unix", path).ask("g a", "1 Lock Get Success: a")
	out := unalign(prints(t, "unix://"+path, 0, "dump", "-l"))
	lines := strings.Split(out, "\n")
	if !strings.Contains(lines[1], " unix:1 - ") && !strings.Contains(lines[1], " unix:") {
		t.Errorf("got %q", out)
	}
	if document := prints(t, "unix://"+path, 0, "dump", "--json"); strings.Contains(document, `"process":null`) {
		t.Log("this system does not tell") // see pkg/server
	} else if !strings.Contains(lines[1], " uid ") {
		t.Errorf("got %q", out)
	}
}

// TestDumpWatch: again and again, with a line between if it is no terminal.
func TestDumpWatch(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g a", "1 Lock Get Success: a")
	for _, args := range [][]string{{"--watch", "--every", "0.1"}, {"--watch", "-l"}} {
		out := startPrinting(t, append([]string{"dump", "-s", d.addr("tcp")}, args...)...)
		for range 2 {
			if line := out.line(); !strings.HasPrefix(line, "--- 20") {
				t.Errorf("got %q", line)
			} else if _, err := time.Parse(time.RFC3339, line[4:]); err != nil {
				t.Error(err)
			}
			if line := out.line(); !strings.HasPrefix(line, "NAME ") {
				t.Errorf("got %q", line)
			}
			if line := out.line(); !strings.HasPrefix(line, "a ") {
				t.Errorf("got %q", line)
			}
		}
		out.stop()
	}
	out := startPrinting(t, "dump", "-s", d.addr("tcp"), "--watch", "--every=100ms", "--json")
	for range 3 {
		if line := out.line(); !strings.HasPrefix(line, `{"look":true,"locks":[{"name":"a",`) || !json.Valid([]byte(line)) {
			t.Errorf("got %q", line)
		}
	}
	out.stop()
}

// printing is a lockd that prints on and on.
type printing struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Reader
}

func startPrinting(t *testing.T, args ...string) *printing {
	t.Helper()
	cmd := exec.Command(binary, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &printing{t, cmd, bufio.NewReader(out)}
}

func (p *printing) line() string {
	p.t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("it prints %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// stop ends it as Ctrl-C does.
func (p *printing) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(os.Interrupt)
	io.Copy(io.Discard, p.out)
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("it ended with %v", err)
	}
}

func TestKick(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	addr := d.addr("tcp")
	c := dial(t, "tcp", addr)
	c.ask("g a", "1 Lock Get Success: a")
	me := c.LocalAddr().String()
	// Nobody can be asked.
	code, _, stderr := run("kick", "-s", addr, me)
	if code != 2 || !strings.Contains(stderr, "no terminal") || !strings.Contains(stderr, "--yes") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	c.ask("i a", "1 Lock Is Locked: a")
	if got := prints(t, addr, 0, "kick", me, "--yes"); got != "kicked "+me+"\n" {
		t.Errorf("got %q", got)
	}
	c.ended()
	dial(t, "tcp", addr).ask("i a", "0 Lock Not Locked: a")
	code, stdout, stderr := run("kick", "-s", addr, "-y", me)
	if code != 1 || stdout != "" || stderr != "lockd: no such client: "+me+"\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	// Some are there; two owners are on one connection.
	c, other := dial(t, "tcp", addr), dial(t, "tcp", addr)
	c.ask("hello 2", "2 lockd "+version(t))
	c.ask("1 sg b", "1 1 Shared Lock Get Success: b")
	c.ask("2 sg b", "2 2 Shared Lock Get Success: b")
	other.ask("sg b", "3 Shared Lock Get Success: b")
	me = c.LocalAddr().String()
	code, stdout, stderr = run("kick", "-s", addr, "-y", me+"#1", "10.0.0.7:1", me+"#2", other.LocalAddr().String(), "--json")
	if want := `{"kicked":["` + me + `#1","` + me + `#2","` + other.LocalAddr().String() + `"],"missing":["10.0.0.7:1"]}` + "\n"; code != 1 ||
		stdout != want || stderr != "lockd: no such client: 10.0.0.7:1\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	dial(t, "tcp", addr).ask("si b", "0 Shared Lock Not Locked: b")

	code, _, stderr = run("kick", "-s", glockdLike(t), "-y", "a:1")
	if code != 69 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "too old to end clients") {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	for _, args := range [][]string{{"kick"}, {"kick", "-y"}, {"kick", "-y", ""}, {"kick", "-y", "a\nb"}} {
		if code, _, stderr := run(args...); code != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "<addr>") {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}

// TestKickIsNotAllowed: over a network.
func TestKickIsNotAllowed(t *testing.T) {
	t.Parallel()
	addr := script(t, func() func(string) (string, bool) {
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); verb {
			case "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case "kick":
				return "0 Not Allowed: kick\n", false
			}
			return "", false
		}
	})
	code, _, stderr := run("kick", "-s", addr, "-y", "10.0.0.7:1")
	if code != 69 || stderr != "lockd: "+addr+": not allowed: only for admins and, where the server asks nobody who they are, for clients on its own machine\n" {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

// TestKickTellsWhomItHasEnded: also when the server goes away before the last.
func TestKickTellsWhomItHasEnded(t *testing.T) {
	t.Parallel()
	addr := script(t, func() func(string) (string, bool) {
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); {
			case verb == "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case line == "kick a:1":
				return "1 Kicked: a:1\n", false
			}
			return "", true
		}
	})
	for _, test := range []struct{ args, stdout string }{
		{"a:1 b:1", "kicked a:1\n"},
		{"a:1 b:1 --json", `{"kicked":["a:1"],"missing":[]}` + "\n"},
		{"b:1 a:1 --json", ""},
	} {
		code, stdout, stderr := run(append([]string{"kick", "-y", "-s", addr}, strings.Fields(test.args)...)...)
		if code != 69 || stdout != test.stdout || !strings.HasPrefix(stderr, "lockd: "+addr+": ") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit code %d, %q, %q", test.args, code, stdout, stderr)
		}
	}
}
