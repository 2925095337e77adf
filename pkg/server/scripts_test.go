package server_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

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
//	                          max-locks-per-connection and shards
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
//	[dump-off]   what follows is for these settings only, [] for all again
//
// A text in quotes is a Go string; {A} is the address of A, and {x*40} is x
// repeated.
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
						sc.run(t, transport, features)
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
var stepOps = []string{">>", ">", "<-", "<", "|", "~", "!"}

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
		st.text = repeat(st.text)
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
	case "max-locks-per-connection":
		return number(&sc.opts.MaxLocksPerConnection)
	case "shards":
		return number(&sc.opts.Shards)
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
	half      map[byte]bool // those that sent half a line
	fences    int
}

func (sc *script) run(t *testing.T, transport, features string) {
	opts := sc.opts
	opts.DisableDump = features == "dump-off" || features == "both-off"
	opts.DisableRegistry = features == "registry-off" || features == "both-off"
	r := &scriptRun{t, start(t, opts), transport, make(map[byte]peer), make(addresses), make(map[byte]bool), 0}
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
		if st.op == "!" {
			r.fence(st.who)
			must(t, r.peers[st.who].Close())
			delete(r.peers, st.who)
			delete(r.half, st.who)
			waitConnections(t, r.s.Server, len(r.peers))
			continue
		}
		p := r.peer(st.who)
		switch st.op {
		case ">":
			p.request(st.text)
			r.half[st.who] = false
		case ">>":
			p.raw(st.text)
			r.half[st.who] = !strings.HasSuffix(st.text, "\n")
		case "<-":
			r.fence(st.who)
		case "<", "|":
			if err := r.addrs.match(p.line(st.op == "<"), st.text+"\n"); err != nil {
				t.Fatalf("%s\n%v", at, err)
			}
		case "~":
			var want []string
			for ; i < len(steps) && steps[i].op == "~" && steps[i].who == st.who; i++ {
				want = append(want, steps[i].text+"\n")
			}
			i--
			r.anyOrder(at, p, want)
		}
	}
	for who := range r.peers {
		r.fence(who)
	}
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

// anyOrder reads as many lines as are wanted.
func (r *scriptRun) anyOrder(at string, p peer, want []string) {
	for n := range len(want) {
		line := p.line(n == 0)
		found := slices.IndexFunc(want, func(w string) bool { return r.addrs.match(line, w) == nil })
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
	p.request("i " + name)
	if got, want := p.line(true), "0 Lock Not Locked: "+name+"\n"; got != want {
		r.t.Fatalf("%c: got %q, although nothing was to be replied", who, got)
	}
	p.done()
}
