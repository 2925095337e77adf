package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/gdamore/tcell/v3/vt"

	"github.com/nylen/lockd/internal/netlab"
)

// A watcher is a lockd top on a terminal: what it sends is interpreted as a terminal
// does it, so that tests see what a person sees.
type watcher struct {
	*terminal
	before syscall.Termios // the terminal's modes when it began

	mu   sync.Mutex // guards what follows
	mock vt.MockTerm
	raw  strings.Builder
	size vt.Coord
}

// modes are those of the terminal at the program's end.
func (term *terminal) modes() (modes syscall.Termios) {
	term.t.Helper()
	if err := ioctl(term.tty, syscall.TCGETS, unsafe.Pointer(&modes)); err != nil {
		term.t.Fatal(err)
	}
	return modes
}

// watchTop runs lockd top, or a shell in which it can be run, at 80 x 24.
func watchTop(t *testing.T, args ...string) *watcher {
	t.Helper()
	term := openTerminalWith(t, []string{"TERM=xterm-256color", "LC_ALL=C.UTF-8", "PS1=prompt> ", "INPUTRC=/dev/null", "COLORTERM="},
		append([]string{"sh", "-c", `stty cols 80 rows 24; read begin; exec "$@"`, "-"}, args...)...)
	w := &watcher{terminal: term, before: term.modes(), size: vt.Coord{X: 80, Y: 24}}
	io.WriteString(term.File, "\n") // so late that the modes were still those of before
	w.mock = vt.NewMockTerm(vt.MockOptSize(w.size))
	if err := w.mock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.mock.Stop() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := term.File.Read(b)
			w.mu.Lock()
			w.raw.Write(b[:n])
			w.mock.Write(b[:n])
			w.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return w
}

// screen is what it shows.
func (w *watcher) screen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for y := range w.size.Y {
		var line strings.Builder
		for x := vt.Col(0); x < w.size.X; x++ {
			c := w.mock.GetCell(vt.Coord{X: x, Y: y})
			if c.C == "" {
				c.C = " "
			}
			line.WriteString(c.C)
			if c.W == 2 {
				x++
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// sent is all that it has sent.
func (w *watcher) sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.raw.String()
}

// sees waits until the screen shows what a pattern says; (?m) and (?s) hold.
func (w *watcher) sees(pattern string) string {
	w.t.Helper()
	return w.until(pattern, true)
}

// misses waits until it does not any more.
func (w *watcher) misses(pattern string) {
	w.t.Helper()
	w.until(pattern, false)
}

func (w *watcher) until(pattern string, there bool) (screen string) {
	w.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if screen = w.screen(); re.MatchString(screen) == there {
			return screen
		}
		if time.Since(begin) > patience-5*time.Second {
			w.t.Fatalf("%q is there: %v, want %v; the screen is\n%s", pattern, !there, there, screen)
		}
	}
}

func (w *watcher) types(keys string) {
	w.t.Helper()
	if _, err := io.WriteString(w.File, keys); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watcher) resize(columns, rows int) {
	w.t.Helper()
	w.mu.Lock()
	w.size = vt.Coord{X: vt.Col(columns), Y: vt.Row(rows)}
	w.mock.SetSize(w.size)
	w.mu.Unlock()
	size := [4]uint16{uint16(rows), uint16(columns)}
	if err := ioctl(w.File, syscall.TIOCSWINSZ, unsafe.Pointer(&size)); err != nil {
		w.t.Fatal(err)
	}
}

// isClean checks that the terminal is as if lockd top had never been there.
func (w *watcher) isClean() {
	w.t.Helper()
	if after := w.modes(); after != w.before {
		w.t.Errorf("the terminal's modes are %+v, were %+v", after, w.before)
	}
	const mark = "(the end)"
	io.WriteString(w.tty, mark)
	await(w.t, func() bool { return strings.Contains(w.sent(), mark) })
	sent := w.sent()
	for _, mode := range []struct{ name, on, off, want string }{
		{"alternate screen", "\x1b[?1049h", "\x1b[?1049l", "off"},
		{"cursor", "\x1b[?25h", "\x1b[?25l", "on"},
		{"wrapping", "\x1b[?7h", "\x1b[?7l", "on"},
		{"paste", "\x1b[?2004h", "\x1b[?2004l", "off"},
		{"keypad", "\x1b=", "\x1b>", "off"},
		{"cursor keys", "\x1b[?1h", "\x1b[?1l", "off"},
	} {
		got := "off"
		if strings.LastIndex(sent, mode.on) > strings.LastIndex(sent, mode.off) {
			got = "on"
		}
		if got != mode.want {
			w.t.Errorf("%s is %s at last", mode.name, got)
		}
	}
}

func (w *watcher) exits(code int) {
	w.t.Helper()
	exits(w.t, w.cmd, code)
}

func TestTopOnATerminal(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	for _, server := range []string{d.addr("tcp"), "unix://" + dir + "/s", "ws://" + d.addr("websocket")} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			lock := func(name string) string { return name + "-" + regexp.MustCompile(`\W`).ReplaceAllString(server, "") }
			w := watchTop(t, binary, "top", "-s", server, "--every", "0.1")
			w.sees(`\A.*connected`)
			w.sees(`^locks \S+/`)
			c := dial(t, "tcp", d.addr("tcp"))
			c.ask("iam the holder", "1 ok")
			w.types("/" + lock("") + "\r") // nothing begins so
			w.sees(`no such name`)
			w.types("/\x15\r")
			c.ask("g "+lock("one"), "1 Lock Get Success: "+lock("one"))
			w.types("/" + lock("one") + "\r") // there may be those of the other subtests
			w.sees(`^` + lock("one")[:12] + `.* excl .* the holder`)
			c.ask("r "+lock("one"), "1 Lock Release Success: "+lock("one"))
			w.misses(`^` + lock("one")[:12])
			w.types("q")
			w.exits(0)
			w.isClean()
		})
	}
}

func TestTopSortsAndFilters(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	a, b := dial(t, "tcp", d.addr("tcp")), dial(t, "tcp", d.addr("tcp"))
	a.ask("g zebra", "1 Lock Get Success: zebra")
	time.Sleep(100 * time.Millisecond) // ages are told by 16 ms
	a.ask("g apple", "1 Lock Get Success: apple")
	b.ask("iam Beatrice", "1 ok")
	b.ask("g middle", "1 Lock Get Success: middle")
	wait := dial(t, "tcp", d.addr("tcp"))
	fmt.Fprint(wait, "gw 60000 middle\n")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`(?s)longest queue first.*^middle.* 1 .*^apple`)
	w.types("s")
	w.sees(`(?s)oldest first.*^zebra.*^middle`)
	w.types("<<")
	w.sees(`(?s)by name.*^apple.*^middle.*^zebra`)
	w.types("r")
	w.sees(`(?s)by name, turned round.*^zebra.*^middle.*^apple`)
	w.types("/ze")
	w.misses(`^apple`)
	w.sees(`^zebra`)
	w.sees(`^filter: ze$`)
	w.types("\x7f\x7fh:beat\r")
	w.sees(`^middle .* Beatrice`)
	w.misses(`^zebra`)
	w.types("\x1b")
	w.sees(`^zebra`)
	w.types("2")
	w.sees(`(?s)ADDRESS.*^127.0.0.1:\d+ +Beatrice +tcp`)
	w.types("q")
	w.exits(0)
}

func TestTopKicks(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	holder, next := dial(t, "tcp", d.addr("tcp")), dial(t, "tcp", d.addr("tcp"))
	holder.ask("iam the holder", "1 ok")
	holder.ask("g deploy", "1 Lock Get Success: deploy")
	fmt.Fprint(next, "iam the next\ngw 60000 deploy\n")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`^deploy .* 1 .* the holder`)
	w.types("\r")
	w.sees(`(?s)^lock deploy  held by 1, 1 wait.*^held .* the holder.*^waits 1 .* the next`)
	w.types("K")
	w.sees(`(?s)^End client 127.0.0.1:\d+\?.*It is the holder.*It loses 1 lock.*^ *deploy.*^y ends it`)
	w.types("n")
	w.sees(`nobody was ended`)
	holder.ask("i deploy", "1 Lock Is Locked: deploy")
	w.types("K")
	w.sees(`^y ends it`)
	w.types("y")
	w.sees(`(?s)^lock deploy  held by 1, 0 wait.*^held .* the next.*^ended 127`)
	holder.ended()
	w.types("\x1b")
	w.sees(`^deploy .* the next`)
	w.types("q")
	w.exits(0)
}

// TestTopIsNotTold: a role or a flag leaves numbers, or nothing; it is said why.
func TestTopIsNotTold(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--disable-dump")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`not told: the server was started with --disable-dump`)
	w.sees(`^requests/s [0-9]`)
	w.types("q")
	w.exits(0)

	dir := t.TempDir()
	_, token, _ := run("token", "add", "ci", "--role", "lock", "--auth-file", dir+"/auth")
	if err := os.WriteFile(dir+"/token", []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	d = start(t, nil, "-t", anyPort, "--admin", "off", "--auth-file", dir+"/auth")
	w = watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1", "--token-file", dir+"/token")
	w.sees(`^numbers: not told to this client: it takes a token of role read or admin$`)
	w.sees(`^not told to this client`)
	w.types("q")
	w.exits(0)
	if code, out, stderr := run("top", "-b", "-s", d.addr("tcp"), "--token-file", dir+"/token"); code != 69 || out != "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

// TestTopShowsLosses: a lock whose client has gone is in the list, and in the lock's
// own view.
func TestTopShowsLosses(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("iam the loser", "1 ok")
	c.ask("g lost", "1 Lock Get Success: lost")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`^lost .* the loser`)
	w.types("3")
	w.sees(`^nothing was lost$`)
	c.Close()
	w.sees(`^ .* lost +held [^ ]+ +disconnect .* the loser$`)
	w.types("\r")
	w.sees(`(?s)^lock lost  held by 0, 0 wait.*^nobody holds it.*^Last losses$\n *AGO LOST .*\n.* held [^ ]+ +disconnect .* the loser$`)
	w.types("q")
	w.exits(0)
}

// TestTopServerAway: the last picture stays, and when the server is back it goes on.
func TestTopServerAway(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", free(t), "--admin", "off")
	addr := d.addr("tcp")
	c := dial(t, "tcp", addr)
	c.ask("g before", "1 Lock Get Success: before")
	w := watchTop(t, binary, "top", "-s", addr, "--every", "0.1")
	w.sees(`^before `)
	d.cmd.Process.Kill()
	d.cmd.Wait()
	w.sees(`\A.*away for `)
	w.sees(`^the server is away since \d\d:\d\d:\d\d: connection refused`)
	w.sees(`^before `)
	w.types("K")
	w.sees(`^the server is away$`)
	start(t, nil, "-t", addr, "--admin", "off")
	w.sees(`\A.*connected`)
	w.misses(`^before `)
	w.types("q")
	w.exits(0)
}

func TestTopResizes(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g sized", "1 Lock Get Success: sized")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`^NAME +KIND .* HOLDER$`)
	for _, size := range [][2]int{{200, 50}, {40, 10}, {20, 5}, {1, 1}, {80, 24}, {132, 43}} {
		w.resize(size[0], size[1])
		switch {
		case size[0] >= 150:
			w.sees(`^NAME .* ADDRESS +TOKEN/COUNT$`)
			w.sees(`^sized `)
		case size[0] >= 40:
			w.sees(`^NAME .* QUEUE`)
			w.sees(`^sized `)
		case size[0] == 20:
			w.sees(`connected`)
		}
	}
	for range 50 { // faster than it draws
		for n := range 20 {
			w.resize(1+n, 1+n)
		}
		w.resize(80, 24)
		w.sees(`^NAME .* QUEUE`)
	}
	w.types("q")
	w.exits(0)
}

// TestTopEnds: whatever ends it, the terminal is as before.
func TestTopEnds(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	ends := map[string]func(w *watcher){
		"q":      func(w *watcher) { w.types("q") },
		"Ctrl-C": func(w *watcher) { w.types("\x03") },
		"Esc":    func(w *watcher) { w.types("\x1b") },
	}
	for name, s := range map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT} {
		ends[name] = func(w *watcher) { w.cmd.Process.Signal(s) }
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
			w.sees(`\A.*connected`)
			end(w)
			w.cmd.Wait()
			status := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
			switch s := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT}[name]; {
			case s == 0 && status != 0, s != 0 && status.Signal() != s:
				t.Errorf("it ended: %v", w.cmd.ProcessState)
			}
			w.isClean()
		})
	}
}

func TestTopIsStopped(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("no bash here")
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g stopped", "1 Lock Get Success: stopped")
	w := watchTop(t, "bash", "--norc", "--noprofile", "-i")
	w.sees(`^prompt>$`)
	for range 3 {
		w.types(binary + " top -s " + d.addr("tcp") + " --every 0.1\r")
		w.sees(`^stopped .* excl`)
		for range 2 {
			w.types("\x1a")
			w.sees(`(?s)Stopped.*^prompt>$`)
			w.types("echo in''side\r")
			w.sees(`^inside`)
			w.types("clear; fg\r")
			w.sees(`(?s)connected.*^stopped .* excl`)
		}
		w.types("q")
		w.sees(`prompt>$`)
		w.types("clear; echo code $?\r")
		w.sees(`^code 0`)
	}
}

// TestTopGoesOn: whoever stops it, and whatever has become of the terminal meanwhile,
// when it goes on it has the terminal as it needs it, and gives it back as it was.
func TestTopGoesOn(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`\A.*connected`)
	raw := w.modes()
	for range 3 {
		w.cmd.Process.Signal(syscall.SIGSTOP)
		await(t, func() bool { return state(w.cmd.Process.Pid) == 'T' })
		if err := ioctl(w.tty, syscall.TCSETS, unsafe.Pointer(&w.before)); err != nil { // as a shell does
			t.Fatal(err)
		}
		w.mu.Lock()
		w.mock.Write([]byte("\x1b[H\x1b[2J")) // others have had the screen
		w.mu.Unlock()
		w.cmd.Process.Signal(syscall.SIGCONT)
		w.sees(`\A.*connected`)
		await(t, func() bool { return w.modes() == raw })
		w.types("2")
		w.sees(`^ADDRESS`)
		w.types("1")
		w.sees(`^NAME`)
	}
	w.types("q")
	w.exits(0)
	w.isClean()
}

// TestTopTerminalIsClosed: it ends with it.
func TestTopTerminalIsClosed(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`\A.*connected`)
	w.tty.Close()
	w.File.Close()
	w.cmd.Wait() // or the terminal's time is over, and it is killed
	if status := w.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() == syscall.SIGKILL {
		t.Errorf("it ended: %v", w.cmd.ProcessState)
	}
}

// TestTopHostileNames: no name makes the terminal do anything.
func TestTopHostileNames(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	names := []string{
		"\x1b]0;owned\x07", "\x1b[2J\x1b[31mred", "\x9b31mred", "\u009b31m", "bell\x07", "back\x08\x08\x08", "null\x00", "\x7fdelete",
		"bidi \u202e\u2066 evil", "zero\u200bwidth\u200d", "\ufefffeff", "raw \xff\xfe", "caf\u00e9\u0301\u0301\u0301\u0301\u0301", "\u0301alone",
		"\u65e5\u672c\u8a9e", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "a\rb", strings.Repeat("long\x1b[5m", 400), "\x1bPq#0\x1b\\", "\x1b[6n\x1b[c",
	}
	c := dial(t, "tcp", d.addr("tcp"))
	fmt.Fprint(c, "iam \x1b]2;title\x07evil\u202e\n")
	for _, name := range names {
		fmt.Fprintf(c, "g %s\n", name)
	}
	dial(t, "tcp", d.addr("tcp")).ask("ping", "1 pong")
	w := watchTop(t, binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.resize(80, 40)
	w.sees(`^"\\x1b\]0;owned\\a" `)
	for _, key := range []string{"2", "3", "1", "\r", "K", "n", "\x7f", "/zz\x15\r", "2", "\r", "\x7f", "1"} {
		w.types(key)
		time.Sleep(50 * time.Millisecond) // whatever that shows
	}
	w.sees(`^"\\x1b\]0;owned\\a" `)
	w.types("q")
	w.exits(0)
	own := regexp.MustCompile(`\x1b(\[[0-9;]*[HmJlrKt]|\[\?[0-9;]*[hl]|\[[0-9]* q|[=>]|\(B|\)0|\]8;;\x1b\\)|[\r\n\x08]`)
	rest := own.ReplaceAllString(w.sent(), "")
	for _, r := range rest {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff || r == 0xfffd {
			t.Fatalf("it sent %U: %q", r, rest)
		}
	}
}

// TestTopOverASlowLine: of a terminal that takes nothing more, nothing is waited for:
// keys are heard, and a signal ends it. What it has not taken is the last picture, not
// all that there would have been since.
func TestTopOverASlowLine(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	begin := func(t *testing.T) (*terminal, syscall.Termios) {
		term := openTerminalWith(t, []string{"TERM=xterm-256color", "LC_ALL=C.UTF-8"}, "sh", "-c",
			`stty cols 250 rows 80; read begin; exec "$@"`, "-", binary, "top", "-s", d.addr("tcp"), "--every", "0.01")
		before := term.modes()
		io.WriteString(term, "\n")
		term.shows("connected")
		for range 50 { // drawn anew, as long as the terminal takes it: far more than fits
			io.WriteString(term, "\x0c")
			time.Sleep(10 * time.Millisecond)
		}
		return term, before
	}
	t.Run("a signal", func(t *testing.T) {
		t.Parallel()
		term, before := begin(t)
		term.cmd.Process.Signal(syscall.SIGTERM)
		term.cmd.Wait()
		if status := term.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGTERM {
			t.Errorf("it ended: %v", term.cmd.ProcessState)
		}
		if after := term.modes(); after != before {
			t.Errorf("the terminal's modes are %+v, were %+v", after, before)
		}
	})
	t.Run("a key", func(t *testing.T) {
		t.Parallel()
		term, before := begin(t)
		io.WriteString(term, "q")
		term.cmd.Wait()
		if term.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("it ended: %v", term.cmd.ProcessState)
		}
		if after := term.modes(); after != before {
			t.Errorf("the terminal's modes are %+v, were %+v", after, before)
		}
	})
	t.Run("read again", func(t *testing.T) {
		t.Parallel()
		term, _ := begin(t)
		io.WriteString(term, "3") // it is drawn when there is room
		if shown := term.until("AGO"); len(shown) > 1<<20 {
			t.Errorf("%d bytes came before it", len(shown))
		}
		io.WriteString(term, "q")
		term.until("\x1b[?1049l")
	})
}

// TestTopPlain: where there is no terminal, or one that cannot move its cursor, it
// prints lists.
func TestTopPlain(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("iam me", "1 ok")
	c.ask("g plain \x1b[31m", "1 Lock Get Success: plain \x1b[31m")
	code, out, stderr := run("top", "-s", d.addr("tcp"))
	if code != 0 || stderr != "" || strings.Count(out, "NAME ") != 1 || !strings.Contains(out, "\n\"plain \\x1b[31m\"  excl") {
		t.Errorf("exit code %d, %q, %s", code, stderr, out)
	}
	code, out, stderr = run("top", "-s", d.addr("tcp"), "-n", "3", "-d", "0.01", "--view", "clients")
	if code != 0 || stderr != "" || strings.Count(out, "ADDRESS ") != 3 || !strings.Contains(out, "  me ") {
		t.Errorf("exit code %d, %q, %s", code, stderr, out)
	}
	term := openTerminal(t, binary, "top", "-s", d.addr("tcp")) // TERM=dumb
	if out := term.ends(); strings.Contains(out, "\x1b") || !strings.Contains(out, "\r\nNAME ") {
		t.Errorf("a dumb terminal shows %q", out)
	}
	for _, args := range [][]string{{"--view", "rates"}, {"--sort", "size"}, {"--view", "losses", "--sort", "queue"}, {"-n", "0"}, {"--rows", "1001"}} {
		if code, out, stderr := run(append([]string{"top", "-s", d.addr("tcp")}, args...)...); code != 2 || out != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, out, stderr)
		}
	}
	code, out, stderr = run("top", "-s", netlab.Nobody)
	if want := "lockd: cannot reach " + netlab.Nobody + ": connection refused\n"; code != 69 || out != "" || stderr != want {
		t.Errorf("exit code %d, %q, %q", code, out, stderr)
	}
}

func TestTopWithoutColours(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	w := watchTop(t, "env", "NO_COLOR=1", binary, "top", "-s", d.addr("tcp"), "--every", "0.1")
	w.sees(`\A.*connected`)
	w.sees(`^requests/s [0-9]`)
	w.types("q")
	w.exits(0)
	if colour := regexp.MustCompile(`\x1b\[[0-9;]*[34][0-9][0-9;]*m`).FindString(w.sent()); colour != "" {
		t.Errorf("it sent %q", colour)
	}
}
