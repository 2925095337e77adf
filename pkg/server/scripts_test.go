package server_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// TestScripts runs testdata/scripts/*.txt, each over every transport and with
// every setting of the features that it names, on a server of its own.
//
// A script's header:
//
//	features: all dump-off    settings to run with: all, dump-off, registry-off,
//	                          both-off; without this line all of them
//	transports: tcp unix      transports to run over; without it all of them
//	max-line: 64              an option of the server, also max-locks,
//	                          max-locks-per-connection, max-waiters,
//	                          max-sessions, max-keep (off, or a time) and shards
//	fence-session: 9          the session that the runner uses for requests of
//	                          its own with protocol 2; without it session 0
//
// Its steps, A being any capital letter, a connection that opens when it is
// first named:
//
//	A> g foo     A sends a request
//	A>> g fo     A sends bytes, without a newline
//	A< 1 ok      the next reply to A begins with this line
//	A| second    the next line of the same reply
//	A~ one       a line of a reply whose lines may come in any order
//	A<-          A got no reply that has not been read
//	A!           A closes, and the server has seen it
//	A!-          the same, while A waits for something
//	A!!          A is reset (TCP), or closes, while it waits for something
//	A/           A closes its side only
//	A$           the server has closed: nothing more comes
//	A$ kicked    the same, since somebody asked for it
//	A# 2         the server has seen that two wait (A is not asked)
//	A@ 2         that it has seen two connections
//	[dump-off]   what follows is for these settings only, [] for all again
//
// A text in quotes is a Go string; {A} is the address of A, and {x*40} is x
// repeated. {#t} is a number, the same wherever t stands; {#t>s} one larger
// than s, which may be a number or a name, and so {#t<=s}. {%k} is a KEY. A request
// may have those that a reply has had. {version} is the server's.
//
// Who sends `hello 2` speaks protocol 2 from there on.
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/scripts/*.txt")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no scripts")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			sc := readScript(t, file)
			for _, transport := range sc.transports {
				for _, features := range sc.features {
					t.Run(transport+"/"+features, func(t *testing.T) {
						t.Parallel()
						sc.run(t, transport, features, start)
					})
				}
			}
		})
	}
}

var featureSettings = []string{"all", "dump-off", "registry-off", "both-off"}

type script struct {
	file       string
	features   []string
	transports []string
	opts       server.Options
	fence      int // session
	steps      []step
}

type step struct {
	line int
	only []string // settings; nil: all
	who  byte
	op   string // one of stepOps
	text string
}

// stepOps are the steps, each before those that it begins with.
var stepOps = []string{">>", ">", "<-", "<", "|", "~", "!-", "!!", "!", "/", "$", "#", "@"}

func readScript(t *testing.T, file string) *script {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	sc := &script{file: file, features: featureSettings, transports: transports}
	var only []string
	in := bufio.NewScanner(f)
	for n := 1; in.Scan(); n++ {
		line := in.Text()
		fail := func(what string) { t.Fatalf("%s:%d: %s: %s", file, n, what, line) }
		if line == "" || line[0] == '#' {
			continue
		}
		if inner, ok := strings.CutPrefix(line, "["); ok {
			only = nil
			if inner, ok = strings.CutSuffix(inner, "]"); !ok {
				fail("unclosed")
			}
			for _, f := range strings.Fields(inner) {
				if !slices.Contains(sc.features, f) {
					fail("a setting that the script does not run with")
				}
				only = append(only, f)
			}
			continue
		}
		if key, value, ok := strings.Cut(line, ": "); ok && len(sc.steps) == 0 && key == strings.ToLower(key) {
			if !sc.header(key, value) {
				fail("unknown header")
			}
			continue
		}
		st := step{line: n, only: only, who: line[0]}
		for _, op := range stepOps {
			if rest, ok := strings.CutPrefix(line[1:], op); ok && st.op == "" {
				st.op = op
				st.text = strings.TrimPrefix(rest, " ")
			}
		}
		if st.op == "" || st.who < 'A' || st.who > 'Z' {
			fail("no step")
		}
		if strings.HasPrefix(st.text, `"`) {
			if st.text, err = strconv.Unquote(st.text); err != nil {
				fail(err.Error())
			}
		}
		st.text = strings.ReplaceAll(repeat(st.text), "{version}", server.Version)
		sc.steps = append(sc.steps, st)
	}
	must(t, in.Err())
	if len(sc.steps) == 0 {
		t.Fatalf("%s: no steps", file)
	}
	return sc
}

func (sc *script) header(key, value string) bool {
	known := func(values, all []string) bool {
		return !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(all, v) })
	}
	number := func(n *int) bool {
		var err error
		*n, err = strconv.Atoi(value)
		return err == nil
	}
	switch key {
	case "features":
		sc.features = strings.Fields(value)
		return known(sc.features, featureSettings)
	case "transports":
		sc.transports = strings.Fields(value)
		return known(sc.transports, transports)
	case "max-line":
		return number(&sc.opts.MaxLine)
	case "max-locks":
		return number(&sc.opts.MaxLocks)
	case "max-share":
		sc.opts.MaxShare = strings.Fields(value)
		return len(sc.opts.MaxShare) > 0
	case "max-locks-per-connection":
		return number(&sc.opts.MaxLocksPerConnection)
	case "shards":
		return number(&sc.opts.Shards)
	case "max-waiters":
		return number(&sc.opts.MaxWaiters)
	case "max-sessions":
		return number(&sc.opts.MaxSessions)
	case "max-keep":
		if sc.opts.MaxKeep = -1; value == "off" {
			return true
		}
		var err error
		sc.opts.MaxKeep, err = time.ParseDuration(value)
		return err == nil
	case "fence-session":
		return number(&sc.fence)
	}
	return false
}

// repeat replaces {x*N}.
func repeat(s string) string {
	for {
		star := strings.IndexByte(s, '*')
		if star < 2 || s[star-2] != '{' {
			return s
		}
		digits, after, ok := strings.Cut(s[star+1:], "}")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil {
			return s
		}
		s = s[:star-2] + strings.Repeat(s[star-1:star], n) + after
	}
}

// A scriptRun is a script on its way.
type scriptRun struct {
	t         *testing.T
	s         *testServer
	transport string
	peers     map[byte]peer
	addrs     addresses
	half      map[byte]bool // those that sent half a line, or closed their side
	two       map[byte]bool // those that speak protocol 2
	numbers   numbers
	keys      keys
	session   int // for fences
	fences    int
}

func (sc *script) run(t *testing.T, transport, features string, start func(testing.TB, server.Options) *testServer) {
	opts := sc.opts
	opts.DisableDump = features == "dump-off" || features == "both-off"
	opts.DisableRegistry = features == "registry-off" || features == "both-off"
	r := &scriptRun{
		t: t, s: start(t, opts), transport: transport, session: sc.fence,
		peers: make(map[byte]peer), addrs: make(addresses), numbers: make(numbers), keys: make(keys),
		half: make(map[byte]bool), two: make(map[byte]bool),
	}
	if r.s.upstream != nil {
		r.addrs[throughProxy] = "?"
	}
	var steps []step
	for _, st := range sc.steps {
		if st.only == nil || slices.Contains(st.only, features) {
			steps = append(steps, st)
		}
	}
	for i := 0; i < len(steps); i++ {
		st := steps[i]
		at := fmt.Sprintf("%s:%d: %c%s %.80s", sc.file, st.line, st.who, st.op, st.text)
		t.Log(at)
		switch st.op {
		case "!":
			r.fence(st.who)
			r.leave(st.who, false)
			continue
		case "!-", "!!":
			r.leave(st.who, st.op == "!!")
			continue
		case "$":
			r.peers[st.who].ended(st.text == "kicked")
			r.leave(st.who, false)
			continue
		case "#", "@":
			n, err := strconv.Atoi(st.text)
			must(t, err)
			if st.op == "@" {
				waitConnections(t, r.s.Server, n)
			} else {
				of := r.s
				if of.upstream != nil {
					of = of.upstream
				}
				waitWaiters(t, of.Server, n)
			}
			continue
		}
		p := r.peer(st.who)
		switch st.op {
		case "/":
			p.closeWrite()
			r.half[st.who] = true
		case ">":
			p.request(r.addrs.put(r.numbers.put(r.keys.put(st.text))))
			r.half[st.who] = false
			r.two[st.who] = r.two[st.who] || slices.ContainsFunc(strings.Split(st.text, "\n"), func(l string) bool {
				return l == "hello 2" || l == "hello 2 notices"
			})
		case ">>":
			p.raw(st.text)
			r.half[st.who] = !strings.HasSuffix(st.text, "\n")
		case "<-":
			r.fence(st.who)
		case "<", "|":
			line := r.line(st.who, p, st.op == "<")
			want, err := r.keys.fill(line, st.text+"\n")
			if err == nil {
				want, err = r.numbers.fill(line, want)
			}
			if err == nil {
				err = r.addrs.match(line, want)
			}
			if err != nil {
				t.Fatalf("%s\n%v", at, err)
			}
		case "~":
			var want []string
			for ; i < len(steps) && steps[i].op == "~" && steps[i].who == st.who; i++ {
				want = append(want, steps[i].text+"\n")
			}
			i--
			r.anyOrder(at, st.who, p, want)
		}
	}
	for who := range r.peers {
		r.fence(who)
	}
}

// leave closes a connection, and waits until the server has seen it.
func (r *scriptRun) leave(who byte, reset bool) {
	r.t.Helper()
	p := r.peers[who]
	if reset {
		p.reset()
	}
	must(r.t, p.Close())
	delete(r.peers, who)
	delete(r.half, who)
	delete(r.two, who)
	waitConnections(r.t, r.s.Server, len(r.peers))
}

// waitWaiters waits until the server counts n that wait.
func waitWaiters(tb testing.TB, s *server.Server, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d waiters", n), func() bool {
		return metric(tb, s, "lockd_waiters") == n
	})
}

// numbers are those that a script gave names.
type numbers map[string]uint64

// fill replaces {#t} and the like in what is wanted by what came.
func (ns numbers) fill(got, want string) (string, error) {
	for {
		before, after, ok := strings.Cut(want, "{#")
		if !ok {
			return want, nil
		}
		name, after, _ := strings.Cut(after, "}")
		if !strings.HasPrefix(got, before) {
			return "", fmt.Errorf("got  %q\nwant %q", got, want)
		}
		digits := got[len(before):]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || n >= 1<<53 {
			return "", fmt.Errorf("got  %q\nwant a number below 2^53 in place of {#%s}", got, name)
		}
		for _, op := range []string{">", "<="} {
			t, s, ok := strings.Cut(name, op)
			if !ok {
				continue
			}
			limit, known := ns[s]
			if !known {
				if limit, err = strconv.ParseUint(s, 10, 64); err != nil {
					return "", fmt.Errorf("%s is not known", s)
				}
			}
			if (n > limit) != (op == ">") {
				return "", fmt.Errorf("got  %q\nwant %q where %s is %d", got, want, s, limit)
			}
			name = t
		}
		if known, ok := ns[name]; !ok {
			ns[name] = n
		} else if known != n {
			return "", fmt.Errorf("got  %q\nwant %q where %s is %d", got, want, name, known)
		}
		want = before + digits + after
	}
}

// put replaces {#t} in a request.
func (ns numbers) put(text string) string {
	for name, n := range ns {
		text = strings.ReplaceAll(text, "{#"+name+"}", strconv.FormatUint(n, 10))
	}
	return text
}

// keys are the KEYs that a script gave names.
type keys map[string]string

var keyPattern = regexp.MustCompile(`^[0-9a-f]{32}`)

// fill replaces {%k} in what is wanted by what came.
func (ks keys) fill(got, want string) (string, error) {
	before, after, ok := strings.Cut(want, "{%")
	if !ok {
		return want, nil
	}
	name, after, _ := strings.Cut(after, "}")
	key := ks[name]
	if key == "" {
		at := strings.LastIndex(got, " ") + 1
		if key = keyPattern.FindString(got[at:]); key == "" {
			return "", fmt.Errorf("got  %q\nwant %q with a KEY", got, want)
		}
		ks[name] = key
	}
	return before + key + after, nil
}

// put replaces {%k} in a request.
func (ks keys) put(text string) string {
	for name, key := range ks {
		text = strings.ReplaceAll(text, "{%"+name+"}", key)
	}
	return text
}

func (r *scriptRun) peer(who byte) peer {
	if p, ok := r.peers[who]; ok {
		return p
	}
	p := r.s.peer(r.t, r.transport)
	r.peers[who] = p
	if addr := p.addr(); addr != "" {
		r.addrs[who] = addr
	} else {
		delete(r.addrs, who) // of one that was closed
	}
	waitConnections(r.t, r.s.Server, len(r.peers))
	return p
}

// line reads the next line: the first one of a message, or another one of the same.
// With protocol 2 that one may be in the next message, too: replies may share one or
// not.
func (r *scriptRun) line(who byte, p peer, first bool) string {
	if r.two[who] && !first {
		return p.next()
	}
	return p.line(first)
}

// anyOrder reads as many lines as are wanted.
func (r *scriptRun) anyOrder(at string, who byte, p peer, want []string) {
	for n := range len(want) {
		line := r.line(who, p, n == 0 && !r.two[who])
		found := slices.IndexFunc(want, func(w string) bool {
			w, err := r.numbers.fill(line, w)
			return err == nil && r.addrs.match(line, w) == nil
		})
		if found < 0 {
			r.t.Fatalf("%s\ngot  %q\nwant any of %q", at, line, want)
		}
		want = slices.Delete(want, found, found+1)
	}
}

// fence sends a request of its own and expects nothing but the reply to that,
// unless half a line is under way.
func (r *scriptRun) fence(who byte) {
	r.t.Helper()
	if r.half[who] {
		return
	}
	r.fences++
	name := fmt.Sprintf("fence %c %d", who, r.fences)
	p := r.peers[who]
	p.done()
	session := ""
	if r.two[who] {
		session = fmt.Sprintf("%d ", r.session)
	}
	p.request(session + "i " + name)
	if got, want := p.line(true), session+"0 Lock Not Locked: "+name+"\n"; got != want {
		r.t.Fatalf("%c: got %q, although nothing was to be replied", who, got)
	}
	p.done()
}
