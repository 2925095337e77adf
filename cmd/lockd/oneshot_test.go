package main_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/nylen/lockd/internal/netlab"
)

// prints runs a command of lockd against a server.
func prints(t *testing.T, server string, wantCode int, args ...string) string {
	t.Helper()
	code, stdout, stderr := run(append(args, "--server", server)...)
	if code != wantCode || stderr != "" {
		t.Fatalf("%v: exit code %d, want %d; stderr %q", args, code, wantCode, stderr)
	}
	return stdout
}

// document returns what a command prints with --json.
func document(t *testing.T, server string, wantCode int, args ...string) map[string]any {
	t.Helper()
	out := prints(t, server, wantCode, append(args, "--json")...)
	var all map[string]any
	if err := json.Unmarshal([]byte(out), &all); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatalf("%v: %q: %v", args, out, err)
	}
	return all
}

func TestOneShotCommands(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g build \x1b[31m", "1 Lock Get Success: build \x1b[31m")
	c.ask("g caf\u00e9 \u65e5", "1 Lock Get Success: caf\u00e9 \u65e5")
	c.ask("g ", "1 Lock Get Success: ")
	c.ask("sg pool", "1 Shared Lock Get Success: pool")
	other := dial(t, "tcp", d.addr("tcp"))
	other.ask("iam worker 7", "1 ok")
	other.ask("sg pool", "2 Shared Lock Get Success: pool")

	// Over every transport the same.
	for _, server := range []string{d.addr("tcp"), "tcp://" + d.addr("tcp"), "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		for _, test := range []struct {
			args []string
			code int
			want string
			json string
		}{
			{[]string{"who"}, 0, "ADDR NAME\n" + other.LocalAddr().String() + " worker 7\n",
				`{"clients":[{"addr":"` + other.LocalAddr().String() + `","name":"worker 7"}]}`},
		} {
			out := prints(t, server, test.code, test.args...)
			if got := unalign(out); got != test.want {
				t.Errorf("%s %q prints %q, want %q", server, test.args, out, test.want)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(test.json), &want); err != nil {
				t.Fatal(err)
			}
			if got := document(t, server, test.code, test.args...); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s %q prints %v, want %v", server, test.args, got, want)
			}
		}

		ping := document(t, server, 0, "ping")
		if ping["server"] != server || ping["addr"] == "" || ping["rtt_ms"].(float64) <= 0 || ping["connect_ms"].(float64) < 0 {
			t.Errorf("ping: %v", ping)
		}
		if out := prints(t, server, 0, "ping"); !strings.HasPrefix(out, server+" replied in ") {
			t.Errorf("ping: %q", out)
		}
		counters := document(t, server, 0, "stats")
		if counters["locks"] != 3.0 || counters["shared_locks"] != 1.0 {
			t.Errorf("stats: %v", counters)
		}
		if out := unalign(prints(t, server, 0, "stats")); !strings.Contains(out, "\nlocks 3\n") {
			t.Errorf("stats: %q", out)
		}
	}

	lines := strings.Split(prints(t, d.addr("tcp"), 0, "dump", "pool"), "\n")
	if strings.Index(lines[0], "KIND") != strings.Index(lines[1], "shared") {
		t.Errorf("columns: %q", lines)
	}
}

// still replaces times and tokens in what lockd prints.
func still(text string) string {
	text = regexp.MustCompile(`"since_ms":\d+`).ReplaceAllString(text, `"since_ms":0`)
	text = regexp.MustCompile(`"token":[1-9]\d*`).ReplaceAllString(text, `"token":9`)
	text = regexp.MustCompile(`\b\d{16}\b`).ReplaceAllString(text, "TOKEN")
	return regexp.MustCompile(`(?m) \d+s( |$)`).ReplaceAllString(text, " 0s$1")
}

// unalign folds the blanks between columns.
func unalign(table string) string {
	var out strings.Builder
	for line := range strings.Lines(table) {
		out.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return out.String()
}

func TestOneShotFails(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--disable-dump")
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{69, "lockd: cannot reach " + netlab.Nobody + ": connection refused\n", []string{"ping", "-s", netlab.Nobody}},
		{69, "refused", []string{"inspect", "a", "-s", netlab.Nobody}},
		{69, "disabled", []string{"dump", "-s", d.addr("tcp")}},
		{69, "disabled", []string{"who", "-s", d.addr("tcp")}},
		{69, "--disable-dump", []string{"dump", "a", "-s", d.addr("tcp")}},
		{69, "the name is too long", []string{"inspect", strings.Repeat("x", 5000), "-s", d.addr("tcp")}},
		{2, "line break", []string{"inspect", "a\nb", "-s", d.addr("tcp")}},
		{2, "--server: \"http://x\": want tcp://", []string{"ping", "-s", "http://x"}},
		{2, "--server: must not be empty (see lockd ping --help)", []string{"ping", "-s", ""}},
		{2, "--timeout: must be above 0", []string{"stats", "--timeout", "0s"}},
		{2, "--timeout: lacks its value: --timeout=TIME (see lockd ping --help)", []string{"ping", "--timeout"}},
		{2, "--server: lacks its value: --server=TARGET", []string{"ping", "-s", "--json"}},
		{2, `<name>: is empty, as a variable that is not set would be; for the lock with the empty name, write --empty-name ""`, []string{"inspect", ""}},
		{2, `--empty-name ""`, []string{"dump", " "}},
		{2, "unexpected argument foo", []string{"stats", "foo"}},
		{2, "name", []string{"inspect"}},
		{2, "--connect-timeout", []string{"ping", "--connect-timeout", "0"}},
	} {
		code, stdout, stderr := run(test.args...)
		if code != test.code || stdout != "" || strings.Count(stderr, "\n") != 1 ||
			!strings.HasPrefix(stderr, "lockd: ") || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit code %d, want %d; stdout %q, stderr %q, want one line with %q",
				test.args, code, test.code, stdout, stderr, test.want)
		}
	}
}

// TestOneShotNames: spelled as the server does, and to be told apart in JSON
// if they are not UTF-8.
func TestOneShotNames(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("iam w\xff", "1 ok")
	c.ask("g a b", "1 Lock Get Success: a b")
	c.ask("g \xfe", "1 Lock Get Success: \xfe")
	c.ask("g \xff", "1 Lock Get Success: \xff")
	c.ask("sg \xff", "1 Shared Lock Get Success: \xff")
	me := c.LocalAddr().String()
	held := func(token string) string {
		return `[{"state":"held","token":` + token + `,"addr":"` + me + `","name":"w\ufffd","name_base64":"d/8=","since_ms":0,"process":null}],"waiting":[]}`
	}
	const free = `"shared":{"held":false,"count":0,"holders":[],"waiting":[]},"rate":null`
	for _, test := range []struct{ want, command, name string }{
		{`{"name":"a b","held":true,"exclusive":{"held":true,"holders":` + held("9") + `,` + free + `,"look":true}`, "inspect", " a \t b "},
		{`{"name":"\ufffd","name_base64":"/w==","held":true,"exclusive":{"held":true,"holders":` + held("9") +
			`,"shared":{"held":true,"count":1,"holders":` + held("0") + `,"rate":null,"look":true}`, "inspect", "\xff"},
		{`{"look":true,"locks":[{"name":"\ufffd","name_base64":"/g==","held":true,"exclusive":{"held":true,"holders":` + held("9") + `,` + free + `}]}`, "dump", "\xfe"},
		{`{"look":true,"locks":[]}`, "dump", "\xfd"},
	} {
		if got := still(prints(t, d.addr("tcp"), 0, test.command, test.name, "--json")); got != test.want+"\n" {
			t.Errorf("%s %q: got %s, want %s", test.command, test.name, got, test.want)
		}
	}
	if got, want := prints(t, d.addr("tcp"), 0, "who", "--json"), `{"clients":[{"addr":"`+me+`","name":"w\ufffd","name_base64":"d/8="}]}`+"\n"; got != want {
		t.Errorf("who: got %s, want %s", got, want)
	}
}

// TestBoundsOfWaitingAndSessions crosses --max-waiters and --max-sessions.
func TestBoundsOfWaitingAndSessions(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--max-waiters", "1", "--max-sessions", "3")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g a", "1 Lock Get Success: a")
	c.ask("hello 2", "2 lockd "+version(t))
	c.ask("1 sg b", "1 1 Shared Lock Get Success: b")
	c.ask("2 sg b", "2 2 Shared Lock Get Success: b")
	c.ask("3 sg b", "3 0 Too Many Sessions")
	fmt.Fprintln(c, "1 gw 60000 a")
	c.ask("2 gw 60000 a", "2 0 Too Many Waiters: a")
	c.ask("0 r a", "0 1 Lock Release Success: a")
	if line, err := c.in.ReadString('\n'); err != nil || !strings.HasSuffix(line, " Lock Get Success: a\n") {
		t.Errorf("got %q, %v", line, err)
	}
	for _, flag := range []string{"--max-waiters", "--max-sessions"} {
		if code, _, stderr := run("-t", anyPort, "--admin", "off", flag, "-1"); code == 0 || !strings.Contains(stderr, flag[2:]) {
			t.Errorf("%s -1: exit code %d, %q", flag, code, stderr)
		}
	}
}

func version(t *testing.T) string {
	t.Helper()
	_, out, _ := run("version")
	return strings.Fields(out)[1]
}

// Of several servers one that answers is asked.
func TestSeveralServers(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	gone := start(t, nil, "-t", anyPort, "--admin", "off")
	server := gone.addr("tcp") + "," + d.addr("tcp")
	gone.stop(syscall.SIGTERM)
	for _, args := range [][]string{{"ping"}, {"who"}, {"stats"}, {"dump"}, {"run", "--server", server, "x", "--", "true"}} {
		if args[0] != "run" {
			args = append(args, "--server", server)
		}
		if code, _, stderr := run(args...); code != 0 || stderr != "" {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
	if code, _, stderr := run("bench", "--server", server); code != 80 && code != 2 || !strings.Contains(stderr, "one server") {
		t.Errorf("bench: exit code %d, %q", code, stderr)
	}
	if code, _, stderr := run("ping", "--server", "tls://a:1,tcp://b:2", "--tls-ca", "x"); code == 0 || !strings.Contains(stderr, "tcp://b:2") {
		t.Errorf("one without TLS: exit code %d, %q", code, stderr)
	}
}
