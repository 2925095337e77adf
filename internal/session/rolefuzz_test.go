package session

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// secret begins all names that a client under test must neither find out nor
// touch. Its requests do not have it in them.
const secret = "zsecret"

// changing are the parts of replies that differ from one moment to the next.
var changing = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\b\d{15,16}\b`), "TOKEN"},
	{regexp.MustCompile(`(?m)^((?:\d+ )?)\d+ (?:Rate Allowed|Rate Limited \d+ ms|Rate Open): `), "${1}RATE: "},
	{regexp.MustCompile(`\t(?:limited|open)\t\d+\t\d+`), "\trate"},
	{regexp.MustCompile(`\t(held|waits)\t\d+\t`), "\t$1\tSINCE\t"},
	{regexp.MustCompile(`\t((?:held|waited|refused)\t[a-z_]+)\t\d+\t\d+\t`), "\t$1\tAGO\tLASTED\t"},
}

func unchanging(replies []byte) string {
	for _, c := range changing {
		replies = c.re.ReplaceAll(replies, []byte(c.by))
	}
	return string(replies)
}

// A world is a server with a client under test, and an administrator who does what
// the input says, besides what is hidden.
type world struct {
	hub           *Hub
	admin, tested *Stream
}

func newWorld(token string, hidden bool) *world {
	cfg := testConfig()
	cfg.Shards, cfg.MaxLine, cfg.MaxSessions = 2, 60, 6
	cfg.Authority = everybody()
	w := &world{hub: newHub(cfg)}
	w.hub.clock.stop() // nobody's patience ends
	w.admin = askedStream(w.hub, Address{Name: "admin:1"}, new(bell))
	w.tested = askedStream(w.hub, Address{Name: "tested:1"}, new(bell))
	w.asAdmin("auth a", "hello 2", "0 g a/taken", "0 sg a/shared", "0 g taken")
	if hidden {
		// Who had no name of its own would be called by what the input has session 0 called.
		w.asAdmin("1 iam "+secret, "2 iam "+secret+"2", "3 iam "+secret+"3", "1 g "+secret+"x", "1 sg "+secret+"x", "2 gw 80000000 "+secret+"x", "3 sgw 1 80000000 "+secret+"x",
			"1 rl 3 80000000 1 "+secret+"x", "1 g "+secret, "4 iam "+secret+"4")
	}
	if token != "" {
		w.asTested("auth "+token, nil)
	}
	return w
}

func (w *world) asAdmin(lines ...string) (replies []byte) {
	for _, l := range lines {
		replies = append(replies, w.say(w.admin, l+"\n")...)
	}
	return replies
}

func (w *world) asTested(line string, said *[]byte) {
	replies := w.say(w.tested, line+"\n")
	if said != nil {
		*said = append(*said, replies...)
	}
}

// say gives a stream input, and takes what comes of it. A wait in protocol 1 is
// given up, and a wrong token is not waited for.
func (w *world) say(s *Stream, in string) (replies []byte) {
	left := []byte(in)
	for range 1000 {
		var out []byte
		var next Next
		before := len(left)
		left, out, next = s.Advance(left, nil)
		replies = append(replies, out...)
		if s.door&denying != 0 {
			s.main.wait.over()
		}
		if l, ok := s.long.(*censusReply); ok {
			for !l.inquiry.answered.Load() {
				time.Sleep(10 * time.Microsecond)
			}
			continue
		}
		if next == Waiting && s.main.wait != nil && !s.multiplexed {
			replies = append(replies, s.main.cancelWait(nil)...)
			continue
		}
		if next == Closing || (len(left) == 0 || len(left) == before) && next != More && next != Early && next != Full {
			return replies
		}
	}
	return replies
}

// over makes a denial's time come.
func (w *wait) over() {
	if w != nil && w.denial != nil {
		w.denial.due = w.denial.due.Add(-denialTakes)
	}
}

// refusal is what the rules in docs/protocol.md say of a request of protocol 1 by
// who has a role, for names with a prefix: the reply, or "" if it may.
func refusal(role Role, prefix string, line []byte) string {
	verb, arg := wire.Parse(bytes.Clone(line))
	c := lookup(verb)
	if c == nil || c.flags&onlySessions != 0 || role == RoleAdmin {
		return ""
	}
	no := "0 Not Allowed: " + c.verb + "\n"
	if !slices.Contains(strings.Fields(roleVerbs[role]), c.verb) {
		if role == 0 {
			no = wire.NotAuthenticated
		}
		return no
	}
	if prefix == "" || slices.Contains(strings.Fields(roleVerbs[0]), c.verb) || c.verb == "me" || c.verb == "iam" || c.verb == "map" {
		return ""
	}
	if slices.Contains(strings.Fields("dump who q top clients stats"), c.verb) {
		return no
	}
	_, name, ok := c.parse(arg)
	if c.verb == "losses" && len(name) == 0 {
		return "" // it leaves out what it may not tell
	}
	if ok && !bytes.HasPrefix(name, []byte(prefix)) {
		return no
	}
	return ""
}

// FuzzRoles has a client of some role say whatever comes, in both protocols, among
// what an administrator does, on two servers: on one of them there is also much
// that the client may not know of. Its replies are the same on both, so it is not
// told; and what it may not touch is the same before and after. In protocol 1 it is
// refused exactly what the rules say.
func FuzzRoles(f *testing.F) {
	verbs := new(strings.Builder)
	for _, v := range Verbs() {
		line := v.Word
		for _, a := range v.Args {
			line += " " + string(rune('0'+max(a.Least, 1)))
		}
		for _, name := range []string{"", " a/x", " a/taken", " taken", " b", " a"} {
			verbs.WriteString(line + name + "\n")
		}
	}
	for token := range uint8(5) {
		f.Add(token, []byte(verbs.String()))
		f.Add(token, []byte("hello 2\n"+regexp.MustCompile(`(?m)^`).ReplaceAllString(strings.TrimSuffix(verbs.String(), "\n"), "3 ")+"\n"))
		f.Add(token, []byte("gw 9 a/taken\n!r a/taken\nlook a/taken\nlook*\nlook* z\nkick admin:1\nkick tested:1\nauth x\ng a/y\n"))
		f.Add(token, []byte("hello 2\n1 gw 999 a/taken\n2 gw 999 taken\n!r taken\n!r a/taken\n3 d\n3 sd\n3 dump\n3 dump shared\n3 q\n3 who\n4 auth la\n4 g b\n5 cancel\n1 bye\n0 bye\n"))
		f.Add(token, []byte(" g\ta/ x \n g  a\n\ng a/\x00\nauth la\nauth r\nd a/taken\nauth\n"))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		if bytes.Contains(data, []byte(secret)) || len(data) > 20_000 {
			return
		}
		who := []string{"", "l", "la", "r", "ra"}[which%5]
		// A token of another role would have it told what it may know then.
		if bytes.Contains(data, []byte("auth")) {
			for _, other := range []string{"a", "r", "l", "ra", "la"} {
				if other != who {
					data = bytes.ReplaceAll(data, []byte("auth "+other+"\n"), []byte("auth "+who+"\n"))
				}
			}
			data = regexp.MustCompile(`auth[ \t\r\v\f]+(?:a|r|l|ra|la)[ \t\r\v\f]*\n`).ReplaceAll(data, []byte("auth x\n"))
		}
		role, prefix := Role(0), ""
		if a := everybody()["token "+who]; a != nil {
			role, prefix = a.Role, a.Prefix
		}
		plain, full := newWorld(who, false), newWorld(who, true)
		before := full.hidden()
		var told [2][]byte
		for line := range bytes.Lines(data) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			if admin, ok := bytes.CutPrefix(line, []byte("!")); ok {
				for _, w := range []*world{plain, full} {
					if !w.admin.closing && !bytes.Contains(admin, []byte("bye")) && !bytes.Contains(admin, []byte("kick")) && !bytes.Contains(admin, []byte("auth")) {
						w.asAdmin("0 " + string(admin))
					}
				}
				continue
			}
			if plain.tested.closing {
				break
			}
			one := !plain.tested.multiplexed && len(plain.tested.partial) == 0 && len(line) <= 60 && plain.tested.postponed == nil
			at := len(told[0])
			plain.asTested(string(line), &told[0])
			full.asTested(string(line), &told[1])
			reply := string(told[0][at:])
			refused := strings.HasPrefix(reply, "0 Not Allowed: ") || reply == wire.NotAuthenticated
			if want := refusal(role, prefix, line); one && refused != (want != "") || one && refused && reply != want {
				t.Fatalf("role %v, prefix %q: %q is answered %q, the rules say %q", role, prefix, line, reply, want)
			}
		}
		if role != RoleRead || prefix != "" { // who reads all may be told all
			if a, b := unchanging(told[0]), unchanging(told[1]); a != b {
				t.Fatalf("role %v, prefix %q: it is told\n%s\nand where there is more\n%s", role, prefix, a, b)
			}
			if bytes.Contains(told[1], []byte(secret)) {
				t.Fatalf("role %v, prefix %q: it is told %q", role, prefix, told[1])
			}
		}
		if after := full.hidden(); !slices.Equal(before, after) {
			t.Fatalf("role %v, prefix %q: hidden was\n%q\nand is\n%q", role, prefix, before, after)
		}
		held := 0
		for line := range strings.Lines(string(full.asAdmin("9 look* "))) {
			fields := strings.Split(strings.TrimPrefix(line, "9 - "), "\t")
			if name := fields[0]; len(fields) > 5 && strings.HasPrefix(fields[5], "tested:1") {
				held++
				if !strings.HasPrefix(name, prefix) || role != RoleLock {
					t.Fatalf("role %v, prefix %q: it holds or waits for %q", role, prefix, name)
				}
			}
		}
		if full.tested.Held() > held {
			t.Fatalf("%d are listed of %d", held, full.tested.Held())
		}
		for _, w := range []*world{plain, full} {
			w.tested.Close()
			w.admin.Close()
			w.hub.Close()
			if st := w.hub.Stats(); st.Locks.Locks != [shard.Kinds]int{} || st.Sessions != 0 || st.Locks.Waiters != 0 {
				t.Fatalf("something is left: %+v", st)
			}
		}
	})
}

// hidden is what is so of the secret names.
func (w *world) hidden() (lines []string) {
	all := w.asAdmin("9 look* "+secret, "9 who")
	for line := range strings.Lines(unchanging(all)) {
		if strings.Contains(line, secret) {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}
