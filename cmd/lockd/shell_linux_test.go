package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// shell is a lockd shell at a terminal.
type shell struct {
	*terminal
	prompt string
	state  string // XDG_STATE_HOME
}

// openShell begins one, and waits for its prompt.
func openShell(t *testing.T, server string, env ...string) *shell {
	t.Helper()
	return openShellAt(t, t.TempDir(), server, env...)
}

func openShellAt(t *testing.T, state, server string, env ...string) *shell {
	t.Helper()
	env = append([]string{"TERM=xterm", "NO_COLOR=1", "XDG_STATE_HOME=" + state}, env...)
	s := &shell{openTerminalWith(t, env, binary, "shell", "-s", server), server + "> ", state}
	s.shows("connected to " + server + ", protocol ")
	s.shows("help lists the verbs, Ctrl-D ends\r\n")
	s.shows(s.prompt)
	return s
}

func (s *shell) types(keys string) { io.WriteString(s, keys) }

// asks types a request, and expects what is shown up to the next prompt: replies
// that begin with a token or end with a time have TOKEN and TIME in their place.
func (s *shell) asks(request, want string) {
	s.t.Helper()
	s.types(request + "\r")
	s.shows(request + "\r\n")
	s.replies(want)
}

var (
	shellToken = regexp.MustCompile(`(?m)^\d{16} `)
	shellTime  = regexp.MustCompile(`\(\d+\.\d\d ms\)`)
)

func (s *shell) replies(want string) {
	s.t.Helper()
	got := strings.ReplaceAll(strings.TrimSuffix(s.until(s.prompt), s.prompt), "\r\n", "\n")
	got = shellTime.ReplaceAllString(shellToken.ReplaceAllString(got, "TOKEN "), "TIME")
	if got != want {
		s.t.Fatalf("the shell shows %q, want %q", got, want)
	}
}

// leaves expects the end.
func (s *shell) leaves(code int) {
	s.t.Helper()
	exits(s.t, s.cmd, code)
}

func TestShell(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	for _, server := range []string{d.addr("tcp"), "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		s := openShell(t, server)
		s.asks("g foo", "TOKEN Lock Get Success: foo  TIME\n")
		s.asks(" i  foo ", "1 Lock Is Locked: foo  TIME\n")
		s.asks("sg bar", "1 Shared Lock Get Success: bar  TIME\n")
		s.asks("sd bar", "- bar: "+s.me()+"\n1 End  TIME\n")
		s.asks("d none", "1 End  TIME\n")
		s.asks("gw soon foo", "0 Invalid Argument: gw  TIME\nusage: gw MS NAME\n  MS is 0 to 86400000\n")
		s.asks("lock foo", "0 Invalid Command: lock  TIME\nthere is no such verb; help lists them\n")
		s.asks("", "")
		s.asks("g caf\u00e9 \u65e5", "TOKEN Lock Get Success: caf\u00e9 \u65e5  TIME\n")
		s.asks("r bar", "0 Lock Release Failure: bar  TIME\n")
		s.asks("sr bar", "1 Shared Lock Release Success: bar  TIME\n")
		s.asks("sg bar", "1 Shared Lock Get Success: bar  TIME\n")
		s.types("\x04")
		s.shows("\r\n3 locks are released: foo, caf\u00e9 \u65e5, bar (shared)\r\n")
		s.leaves(0)
	}
	s := openShell(t, d.addr("tcp"))
	s.asks("g foo", "TOKEN Lock Get Success: foo  TIME\n")
	s.asks("bye", "1 bye  TIME\n")
	s.asks("g bar", "TOKEN Lock Get Success: bar  TIME\n")
	s.asks("reconnect", "1 lock is released: bar\nconnected again; nothing is held\n")
	s.types("quit\r")
	s.shows("quit\r\n")
	s.leaves(0)
}

func (s *shell) me() string {
	s.t.Helper()
	s.types("me\r")
	s.shows("me\r\n")
	return strings.Fields(s.until(s.prompt))[1]
}

func TestShellHelp(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	s := openShell(t, d.addr("tcp"))
	s.asks("help rl", "rl LIMIT MS COST NAME: take units of a rate\n  LIMIT is 1 to 4294967294\n  MS is 1 to 86400000\n"+
		"  COST is 0 to LIMIT\nwho may: lock, admin; docs/protocol.md has its replies\n")
	s.asks("help quit", "quit: leave, and release what is held; so does Ctrl-D\n")
	s.asks("help nonsense", "there is no verb nonsense; help lists them\n")
	s.types("help\r")
	all := s.until(s.prompt)
	for _, want := range []string{"\r\n  g NAME                 acquire an exclusive lock\r\n", "\r\n  d [NAME] ", "\r\n  help [VERB]            list"} {
		if !strings.Contains(all, want) {
			t.Errorf("help shows %q, want %q in it", all, want)
		}
	}
}

// TestShellEscapes: what others have registered moves no cursor. Times are dim
// where colors are wanted.
func TestShellEscapes(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("iam \x1b[2J\xff\u0085", "1 ok")
	c.ask("g a", "1 Lock Get Success: a")
	s := openShell(t, d.addr("tcp"), "NO_COLOR=")
	s.types("d a\r")
	s.shows("d a\r\n- a: \\u001b[2J\\xff\\u0085\r\n1 End  \x1b[2m(")
	s.shows(" ms)\x1b[0m\r\n" + s.prompt)
}

// TestShellLineWithoutItsEnd: editor and kernel drop what is too much, and the
// beginning may be a request, for another lock.
func TestShellLineWithoutItsEnd(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--max-line", "16384")
	for _, term := range []string{"xterm", "dumb"} {
		s := openShell(t, d.addr("tcp"), "TERM="+term)
		s.types("i " + strings.Repeat("y", 10000) + "\r")
		s.shows("not sent: so long a line may lack its end; a script may have it (lockd shell < FILE)\r\n")
		s.shows(s.prompt)
		s.types("i " + strings.Repeat("y", 4092) + "\r")
		s.shows("0 Lock Not Locked: yyy")
	}
}

func TestShellInterrupts(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g held", "1 Lock Get Success: held")
	s := openShell(t, d.addr("tcp"))
	s.asks("g mine", "TOKEN Lock Get Success: mine  TIME\n")
	for i, wait := range []string{"gw 60000 held", "sgw 1 60000 held"} {
		if i == 1 {
			holder.ask("sg held", "1 Shared Lock Get Success: held")
		}
		s.types(wait + "\r")
		verb, _, _ := strings.Cut(wait, " ")
		await(t, func() bool { return strings.Contains(stats(holder), "command_"+verb+": 1\n") })
		s.types("\x03")
		s.shows(wait + "\r\n")
		s.replies("0 Lock Get Canceled: held  TIME\n")
	}
	// The session is in step, and holds what it held.
	s.asks("r mine", "1 Lock Release Success: mine  TIME\n")
	s.asks("g mine", "TOKEN Lock Get Success: mine  TIME\n")
	// Nobody needs Ctrl-C to know that it waits.
	s.types("gw 60000 held\r")
	s.shows("(no reply yet; Ctrl-C ends the wait)\r\n")
	s.types("\x03")
	s.replies("0 Lock Get Canceled: held  TIME\n")
	// At the prompt it clears the line, and what was typed ahead elsewhere.
	s.types("r mine")
	s.shows("r mine")
	s.types("\x03i mine\r")
	s.shows("i mine\r\n")
	s.replies("1 Lock Is Locked: mine  TIME\n")
	s.types("\x03\x03ping\r")
	s.shows("ping\r\n")
	s.replies("1 pong  TIME\n")
}

func TestShellIsSuspended(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	term := openTerminal(t, "bash", "--norc", "--noprofile", "-i")
	term.shows("prompt> ")
	fmt.Fprintf(term, "stty -echo; TERM=xterm XDG_STATE_HOME=%s NO_COLOR=1 %s shell -s %s\n", t.TempDir(), binary, d.addr("tcp"))
	prompt := d.addr("tcp") + "> "
	term.shows("\r\n" + prompt)
	io.WriteString(term, "g foo\r")
	term.shows("foo  (")
	term.shows(prompt)
	io.WriteString(term, "i f")
	term.shows("i f")
	io.WriteString(term, "\x1a")
	term.shows("Stopped")
	term.shows("prompt> ")
	dial(t, "tcp", d.addr("tcp")).ask("i foo", "1 Lock Is Locked: foo")
	io.WriteString(term, "stty -a\n") // echoes nothing, as before
	term.shows("icanon")
	term.shows(" -echo ")
	term.shows("prompt> ")
	io.WriteString(term, "fg\n")
	term.shows("i f")
	io.WriteString(term, "oo\r")
	term.shows("1 Lock Is Locked: foo")
	term.shows(prompt)
	io.WriteString(term, "\x04")
	term.shows("1 lock is released: foo\r\n")
	term.shows("prompt> ")
}

// TestShellIsTerminated: the terminal is given back.
func TestShellIsTerminated(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	s := openTerminalWith(t, []string{"TERM=xterm", "XDG_STATE_HOME=" + t.TempDir()}, "sh", "-c",
		"stty -echo; "+binary+" shell -s "+d.addr("tcp")+"; echo code $?; stty -a")
	s.shows(d.addr("tcp") + "> ")
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.cmd.Process.Pid))
	if err != nil {
		t.Skip(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(children), &pid); err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	s.shows("code 143\r\n")
	s.shows(" icanon")
	s.shows(" -echo ")
}

func TestShellLosesTheServer(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	server := "unix://" + path
	begin := func() *daemon { return start(t, nil, "--unix", path, "--admin", "off") }
	d := begin()
	s := openShell(t, server)
	s.asks("g foo", "TOKEN Lock Get Success: foo  TIME\n")
	s.asks("sg bar", "1 Shared Lock Get Success: bar  TIME\n")
	// While nothing is asked, and half a line is typed.
	s.types("g ")
	s.shows("g ")
	d.stop(syscall.SIGKILL)
	s.shows("connection lost: the server closed the connection; 2 locks are lost: foo, bar (shared)\r\n")
	connected := s.prompt
	s.prompt = "not connected> "
	s.shows(s.prompt + "g ")
	s.types("foo\r")
	s.shows("foo\r\n")
	s.replies("cannot reach " + server + ": connection refused\n")
	d = begin()
	s.prompt = connected
	s.asks("i foo", "connected again; nothing is held\n0 Lock Not Locked: foo  TIME\n")
	// While a request waits.
	s.asks("g foo", "TOKEN Lock Get Success: foo  TIME\n")
	holder := dial(t, "unix", path)
	holder.ask("g held", "1 Lock Get Success: held")
	s.types("gw 60000 held\r")
	await(t, func() bool { return strings.Contains(stats(holder), "command_gw: 1\n") })
	d.stop(syscall.SIGKILL)
	s.shows("gw 60000 held\r\n")
	s.prompt = "not connected> "
	s.replies("connection lost: the server closed the connection; 1 lock is lost: foo\n")
	s.types("\x04")
	s.leaves(0)
}

// TestShellServerFallsSilent: the first Ctrl-C asks the server to end the wait,
// the second one does not ask.
func TestShellServerFallsSilent(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := script(t, modern(func(request string) string {
		switch request {
		case "0 g a":
			return "0 7 Lock Get Success: a\n"
		case "0 ping":
			asked.Add(1)
		case "0 cancel":
			asked.Add(1)
		case "0 who":
			return "0 - 127.0.0.1:1: a\n"
		}
		return ""
	}))
	s := openShell(t, server)
	s.asks("g a", "7 Lock Get Success: a  TIME\n")
	s.types("ping\r")
	await(t, func() bool { return asked.Load() == 1 })
	s.types("\x03")
	await(t, func() bool { return asked.Load() == 2 })
	s.types("\x03")
	s.shows("ping\r\n")
	s.prompt = "not connected> "
	s.replies("connection lost: given up; 1 lock is lost: a\n")
	// A list that does not end.
	s.types("who\r")
	s.shows("connected again; nothing is held\r\n- 127.0.0.1:1: a")
	s.types("\x03")
	s.shows("\r\nthe rest is not shown; Ctrl-C again ends the connection\r\n")
	s.types("\x03")
	s.replies("connection lost: given up\n")
}

func TestShellOnOldServers(t *testing.T) {
	t.Parallel()
	for name, eol := range map[string]string{"glockd": "\r\n", "lockd for Node.js": "\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openShell(t, oldServer(t, eol))
			s.asks("g foo", "1 Lock Get Success: foo  TIME\n")
			s.asks("i foo", "1 Lock Is Locked: foo  TIME\n")
			s.asks("gw 10 foo", "no reply: this server does not know the verb gw\n")
			s.asks("nonsense", "no reply: there is no verb nonsense; help lists them\n")
			s.asks("d", "no line: there is none  TIME\n")
			s.types("g " + strings.Repeat("x", 4094) + "\r")
			s.shows("not sent: so long a line may lack its end; a script may have it (lockd shell < FILE)\r\n" + s.prompt)
			s.types("\x04")
			s.shows("1 lock is released: foo\r\n")
			s.leaves(0)
		})
	}
}

func TestShellCompletes(t *testing.T) {
	t.Parallel()
	var looks atomic.Int32
	many := new(strings.Builder)
	for i := range 2000 {
		fmt.Fprintf(many, "many %04d\texclusive\theld\t10\t7\t127.0.0.1:1\tx\n", i)
	}
	server := script(t, modern(func(request string) string {
		verb, prefix, _ := strings.Cut(request, " ")
		switch {
		case verb == "0":
			return "0 7 Lock Get Success: " + strings.TrimPrefix(prefix, "g ") + "\n"
		case verb != "look*":
			return ""
		}
		looks.Add(1)
		switch prefix {
		case "many":
			return many.String() // and no end
		case "late":
			return ""
		}
		reply := ""
		for _, name := range []string{"report day", "report night", "report\x1b", "caf\u00e9 a", "caf\u00e9 b", "report night"} {
			if strings.HasPrefix(name, prefix) {
				reply += name + "\tshared\twaits\t10\t7\t127.0.0.1:1\tx\n"
			}
		}
		return reply + "1 End\n"
	}))
	s := openShell(t, server)
	// Verbs: the rest of the only one, and those that there are.
	s.types("pi\t")
	s.shows("ping ")
	s.types("\x03")
	s.types("sg\t")
	s.shows("  sg NAME                acquire a shared lock and count its holders\r\n")
	s.shows("  sgl LIMIT NAME         acquire a shared lock while fewer than a limit hold it\r\n")
	s.shows("  sgw LIMIT MS NAME      the same, waiting for it\r\n" + s.prompt + "sg")
	s.types("w 5 \t")
	s.shows("sgw LIMIT MS NAME: the same, waiting for it\r\n" + s.prompt + "sgw 5 ")
	s.types("\x03help re\t")
	s.shows("help re")
	s.types("\x03reco\t")
	s.shows("reconnect ")
	// Names: as far as there is one way to go on.
	s.types("\x03g rep\t")
	s.shows("report ")
	s.types("\t")
	s.shows("report day    report night\r\n" + s.prompt + "g report ")
	s.types("n\t\r")
	s.shows("report night\r\n")
	s.replies("7 Lock Get Success: report night  TIME\n")
	s.types("gw 500 caf\t")
	s.shows("caf\u00e9 ")
	s.types("a\r")
	s.shows("a\r\n")
	s.replies("7 Lock Get Success: gw 500 caf\u00e9 a  TIME\n")
	// No more than so many.
	s.types("t many\t")
	s.shows("many 0000  many 0001")
	s.shows("... and more than 940 others: type more of the name\r\n" + s.prompt + "t many")
	// What the server does not tell in time is not waited for; what is held here
	// is known.
	s.types("\x03")
	s.asks("g late lock", "7 Lock Get Success: late lock  TIME\n")
	before := looks.Load()
	s.types("r late\t")
	s.shows("r late")
	await(t, func() bool { return looks.Load() > before })
	s.types(" \t\r")
	s.shows("\r\n" + s.prompt)
}

// TestShellCompletesWithTheServer: what somebody holds or waits for.
func TestShellCompletesWithTheServer(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g nightly report", "1 Lock Get Success: nightly report")
	c.ask("sg nightly pool", "1 Shared Lock Get Success: nightly pool")
	for _, server := range []string{d.addr("tcp"), "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		s := openShell(t, server)
		s.types("look  ni\t")
		s.shows("ghtly ")
		s.types("re\t\r")
		s.shows("\r\n- nightly report\texclusive\theld\t")
		s.shows("1 End  (")
		s.shows(s.prompt)
	}
}

// TestShellAuthenticates: the token that the server took goes to each connection
// that follows, that for names included. And it is not known to the history.
func TestShellAuthenticates(t *testing.T) {
	t.Parallel()
	server := script(t, func() func(string) (string, bool) {
		prefix, known := "", false
		return func(line string) (string, bool) {
			switch verb, rest, _ := strings.Cut(strings.TrimPrefix(line, prefix), " "); {
			case verb == "ping":
				return prefix + "1 pong\n", false
			case verb == "hello":
				prefix = "0 "
				return "2 lockd test\n", false
			case verb == "auth" && rest != "secret":
				return prefix + "0 Auth Failed\n", false
			case verb == "auth":
				known = true
				return prefix + "1 ok\n", false
			case !known:
				return prefix + "0 Not Authenticated\n", false
			case verb == "i":
				return prefix + "0 Lock Not Locked: " + rest + "\n", false
			case verb == "look*":
				return "name\texclusive\theld\t10\t7\t127.0.0.1:1\tx\n1 End\n", false
			}
			return "", true
		}
	})
	s := openShell(t, server)
	s.asks("i a", "0 Not Authenticated  TIME\n")
	s.asks("auth wrong", "0 Auth Failed  TIME\n")
	s.types("auth\r")
	s.shows("auth\r\ntoken: ")
	s.types("secret\r")
	s.replies("\n1 ok  TIME\n") // and nothing of the token
	s.types("i na\t")
	s.shows("me")
	s.types("\r")
	s.replies("\n0 Lock Not Locked: name  TIME\n")
	s.asks("reconnect", "connected again; nothing is held\n1 ok  TIME\n")
	s.asks("i a", "0 Lock Not Locked: a  TIME\n")
	text, err := os.ReadFile(filepath.Join(s.state, "lockd", "history"))
	if err != nil || strings.Contains(string(text), "secret") {
		t.Errorf("the history is %q, %v", text, err)
	}
	code, stdout, stderr := plays(t, server, "i a\nauth secret\ni a\nping\n")
	if code != 0 || stdout != "0 Not Authenticated\n1 ok\n0 Lock Not Locked: a\n1 pong\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// TestShellCompletesWithAnOldServer: which has no names to tell.
func TestShellCompletesWithAnOldServer(t *testing.T) {
	t.Parallel()
	s := openShell(t, oldServer(t, "\r\n"))
	s.asks("g foo bar", "1 Lock Get Success: foo bar  TIME\n")
	s.types("r fo\t")
	s.shows("foo bar")
	s.types("\r")
	s.replies("\n1 Lock Release Success: foo bar  TIME\n")
}

func TestShellHistory(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	s := openShell(t, d.addr("tcp"))
	s.asks("i one", "0 Lock Not Locked: one  TIME\n")
	s.asks("auth secret", "1 ok  TIME\n")
	s.asks("  Auth secret", "0 Invalid Command: Auth  TIME\nthere is no such verb; help lists them\n")
	s.asks("i two", "0 Lock Not Locked: two  TIME\n")
	s.asks("i two", "0 Lock Not Locked: two  TIME\n")
	s.types("\x1b[A\x1b[A")
	s.shows("i two")
	s.shows("one")
	s.types("\r")
	s.shows("\r\n")
	s.replies("0 Lock Not Locked: one  TIME\n")
	path := filepath.Join(s.state, "lockd", "history")
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "i one\ni two\ni one\n" {
		t.Errorf("the history is %q, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v, want mode 0600", info.Mode(), err)
	}
	// The next shell knows it.
	next := openShellAt(t, s.state, d.addr("tcp"))
	next.types("\x1b[A\x1b[A\r")
	next.shows("two")
	next.shows("\r\n")
	next.replies("0 Lock Not Locked: two  TIME\n")

	// Where there can be none, that is said, and that is all.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	term := openTerminalWith(t, []string{"TERM=xterm", "XDG_STATE_HOME=" + file}, binary, "shell", "-s", d.addr("tcp"))
	term.shows("lockd: what is typed here will not be known later: mkdir " + file + ": not a directory\r\n")
	term.shows("> ")
}

// TestShellOnADumbTerminal: no escape sequence, and everything else.
func TestShellOnADumbTerminal(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	d := start(t, nil, "--unix", path, "--admin", "off")
	holder := dial(t, "unix", path)
	holder.ask("g held", "1 Lock Get Success: held")
	term := openTerminalWith(t, []string{"TERM=dumb"}, binary, "shell", "-s", "unix://"+path)
	prompt := "unix://" + path + "> "
	all := term.until("\r\n" + prompt)
	io.WriteString(term, "g foo\n")
	all += term.until(" ms)\r\n" + prompt)
	io.WriteString(term, "i fo\x03")
	all += term.until("\r\n" + prompt)
	io.WriteString(term, "auth\n")
	all += term.until("token: ")
	await(t, func() bool { return !term.echoes() })
	io.WriteString(term, "secret\n")
	all += term.until(" ms)\r\n" + prompt)
	io.WriteString(term, "gw 60000 held\n")
	await(t, func() bool { return strings.Contains(stats(holder), "command_gw: 1\n") })
	io.WriteString(term, "\x03")
	all += term.until("0 Lock Get Canceled: held")
	all += term.until(prompt)
	d.stop(syscall.SIGKILL)
	all += term.until("1 lock is lost: foo\r\nnot connected> ")
	io.WriteString(term, "\x04")
	term.cmd.Wait()
	if code := term.cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(all, "\x1b") || strings.Contains(all, "secret") {
		t.Errorf("exit code %d, %q", code, all)
	}
}

func TestShellCannotConnect(t *testing.T) {
	t.Parallel()
	path := short(t) + "/s"
	term := openTerminalWith(t, []string{"TERM=xterm", "XDG_STATE_HOME=" + t.TempDir()}, binary, "shell", "-s", "unix://"+path)
	term.shows("lockd: cannot reach unix://" + path + ": no such file or directory\r\n")
	term.cmd.Wait()
	if code := term.cmd.ProcessState.ExitCode(); code != 69 {
		t.Errorf("exit code %d", code)
	}
}

// TestShellCannotPrint: what cannot be printed ends the script, which reads no
// further.
func TestShellCannotPrint(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	cmd := exec.Command(binary, "shell", "-s", d.addr("tcp"))
	cmd.Stdout = full
	var errs strings.Builder
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	io.WriteString(in, "ping\n")
	cmd.Wait() // the input is open until then
	want := "lockd: cannot write the output: no space left on device\n"
	if code := cmd.ProcessState.ExitCode(); code != 74 || errs.String() != want {
		t.Errorf("%v, stderr %q, want exit code 74, %q", cmd.ProcessState, errs.String(), want)
	}
}

// TestShellReadme types what the README types.
func TestShellReadme(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, dialogue, _ := strings.Cut(string(text), "<!-- shell -->\n```\n$ lockd shell\n")
	dialogue, after, ok := strings.Cut(dialogue, "```\n")
	if !ok {
		t.Fatal("there is none")
	}
	term := openTerminalWith(t, []string{"TERM=xterm", "NO_COLOR=1", "LOCKD_SERVER=tcp://" + d.addr("tcp"), "XDG_STATE_HOME=" + t.TempDir()},
		binary, "shell")
	typed := regexp.MustCompile(`(?m)^127\.0\.0\.1:9999> (.*)\n`).FindAllStringSubmatch(dialogue, -1)
	got := ""
	for _, m := range typed {
		got += term.until(d.addr("tcp") + "> ")
		io.WriteString(term, m[1]+"\r")
	}
	got += term.until("1 lock is released: nightly\r\n")
	same := func(s string) string {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), d.addr("tcp"), "127.0.0.1:9999")
		s = regexp.MustCompile(`nightly: 127\.0\.0\.1:\d+`).ReplaceAllString(s, "nightly: ADDR")
		return shellTime.ReplaceAllString(shellToken.ReplaceAllString(s, "TOKEN "), "TIME")
	}
	if same(got) != same(dialogue) || len(typed) != 4 {
		t.Errorf("%d lines are typed; the shell shows\n%s\nthe README\n%s", len(typed), same(got), same(dialogue))
	}

	m := regexp.MustCompile(`(?m)^    \$ printf '(.*)' \| lockd shell\n((?:    .*\n)+)`).FindStringSubmatch(after)
	if m == nil {
		t.Fatal("there is no script")
	}
	code, stdout, stderr := plays(t, d.addr("tcp"), strings.ReplaceAll(m[1], `\n`, "\n"))
	if want := strings.ReplaceAll("\n"+m[2], "\n    ", "\n")[1:]; code != 0 || stdout != want || stderr != "" {
		t.Errorf("exit code %d, %q, %q, want %q", code, stdout, stderr, want)
	}
}
