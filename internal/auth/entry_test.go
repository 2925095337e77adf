package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// digits is the hash of a token, as it stands in a file.
func digits(token string) string { return OfToken([]byte(token)).String() }

func TestParse(t *testing.T) {
	text := "# a comment\n\n" +
		"  ci\tlock:deploy/  " + digits("one") + " # for a while\r\n" +
		"ci lock:deploy/ " + strings.ToUpper(digits("two")[7:]) + "\n"
	text = strings.Replace(text, strings.ToUpper(digits("two")[7:]), "sha256:"+strings.ToUpper(digits("two")[7:]), 1)
	text += "grafana read cert\nbackup lock uid:34\nspiffe://example.org/ops admin cert\nb read:a:b# uid:0"
	all, err := parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"3 ci lock:deploy/ " + digits("one"), "4 ci lock:deploy/ " + digits("two"), "5 grafana read cert",
		"6 backup lock uid:34", "7 spiffe://example.org/ops admin cert", "8 b read:a:b# uid:0",
	}
	for i, e := range all {
		if got := fmt.Sprint(e.Line, " ", e); i >= len(want) || got != want[i] {
			t.Errorf("entry %d is %q", i, got)
		}
	}
	if len(all) != len(want) {
		t.Errorf("%d entries, want %d", len(all), len(want))
	}
}

// What is wrong is told with its place, and what to do. Nothing is repeated that may
// be a token in the wrong place.
func TestParseErrors(t *testing.T) {
	const token = "lockd_SECRETSECRET"
	hash := digits("x")
	for _, c := range []struct{ text, want string }{
		{"", "f is empty: "},
		{" \n\t\n", "f is empty: "},
		{"a lock", "f:1:3: a line has three words, NAME ROLE[:PREFIX] HOW, and this has 2"},
		{"a", "f:1:1: a line has three words"},
		{"# x\n\na lock uid:1 more", "f:3:14: a line has three words, NAME ROLE[:PREFIX] HOW, and this has 4"},
		{"a Lock uid:1", "f:1:3: a role is lock, read, admin or node"},
		{"a write uid:1", "f:1:3: a role is lock, read, admin or node"},
		{"a  admin:x uid:1", "f:1:4: admin cannot have a prefix: "},
		{"a  node:x uid:1", "f:1:4: node cannot have a prefix: "},
		{"a lock: uid:1", "f:1:3: the prefix behind the colon is missing"},
		{"a lock:\x00 uid:1", "f:1:3: a prefix has no blanks or control characters"},
		{"a lock:\xff uid:1", "f:1:3: a prefix has no blanks or control characters"},
		{"\x01 lock uid:1", "f:1:1: a name is one word"},
		{"\ufeffa lock uid:1", "f:1:1: a name is one word"},
		{strings.Repeat("a", maxName+1) + " lock uid:1", "f:1:1: a name may have 200 bytes"},
		{"a lock uid:", "f:1:8: a user's number follows uid:"},
		{"a lock uid:root", "f:1:8: a user's number follows uid:"},
		{"a lock uid:-1", "f:1:8: a user's number follows uid:"},
		{"a lock uid:4294967295", "f:1:8: a user's number follows uid:"},
		{"a lock uid:4294967296", "f:1:8: a user's number follows uid:"},
		{"a lock sha256:", "f:1:8: 64 hexadecimal digits follow sha256:"},
		{"a lock " + hash[:70], "f:1:8: 64 hexadecimal digits follow sha256:"},
		{"a lock " + hash + "0", "f:1:8: 64 hexadecimal digits follow sha256:"},
		{"a lock " + hash[:70] + "g", "f:1:8: 64 hexadecimal digits follow sha256:"},
		{"a lock " + digits(""), "f:1:8: this is the hash of an empty token"},
		{"a lock " + token, "f:1:8: how to know the client is sha256:HEX, cert or uid:N"},
		{"a lock sha256:" + token, "f:1:8: 64 hexadecimal digits follow sha256:"},
		{"a " + token + " lock", "f:1:3: a role is lock, read, admin or node"},
		{"a lock uid:" + token, "f:1:8: a user's number follows uid:"},
		{"a lock uid:1 " + token, "f:1:14: a line has three words"},
		{"a lock token " + token, "f:1:14: a line has three words"},
		{"a lock uid:1\n# x\na read uid:2", "f:3:3: a has another role in line 1: "},
		{"a lock:x uid:1\na lock:y uid:2", "f:2:3: a has another role in line 1: "},
		{"a lock uid:1\nb read uid:1", "f:2:8: line 1, of a, has the same: "},
		{"a lock uid:1\nb read uid:01", "f:2:8: line 1, of a, has the same: "},
		{"a lock " + hash + "\na lock " + hash, "f:2:8: line 1, of a, has the same: "},
		{"a lock cert\na lock cert", "f:2:8: line 1, of a, has the same: "},
	} {
		_, err := parse("f", []byte(c.text))
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v, want %q", c.text, err, c.want)
		}
	}
	for _, good := range []string{"#", "# nobody", strings.Repeat("a", maxName) + " lock uid:4294967294"} {
		if _, err := parse("f", []byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestNewToken(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		token := NewToken()
		if len(token) != len(tokenMark)+tokenDigits || !strings.HasPrefix(token, tokenMark) || !isWord(token) || seen[token] {
			t.Fatalf("%q", token)
		}
		seen[token] = true
	}
}

// FuzzParse reads any file: what is taken for a line means the same when it is
// written again, and means one thing.
func FuzzParse(f *testing.F) {
	hash := digits("x")
	for _, seed := range []string{
		"# a\n\nci lock:deploy/ " + hash + " # x\ngrafana read cert\nbackup lock uid:34\n",
		"a admin:x uid:1", "a lock: uid:1", "a lock " + hash[:50], "a lock uid:1\na read uid:2", "a lock uid:1\r\nb read uid:01\r\n",
		"\ufeffa lock uid:1", "a\x00b lock cert", "a\u00a0b lock cert", "a lock:\u2028 cert", "a lock cert#", "a#b lock:#c cert #d", "\xff lock cert",
		"a lock sha256:" + strings.Repeat("0", 64), strings.Repeat("a lock uid:1\n", 3),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := parse("f", text)
		if err != nil {
			if all != nil {
				t.Error("entries, and an error")
			}
			for line := range strings.Lines(string(text)) {
				if words := strings.Fields(line); len(words) >= 3 && len(words[2]) > 12 && strings.Contains(err.Error(), words[2]) {
					t.Errorf("%q repeats %q", err, words[2])
				}
			}
			return
		}
		again := "#\n"
		roles := make(map[string]string)
		for _, e := range all {
			again += e.String() + "\n"
			word := RoleWord(e.Role, e.Prefix)
			if known, ok := roles[e.Name]; ok && known != word {
				t.Errorf("%s has two roles", e.Name)
			}
			roles[e.Name] = word
			if e.Role == session.RoleAdmin && e.Prefix != "" || e.Name == "" || strings.ContainsAny(e.Name+e.Prefix, " \t\r\n\v\f") {
				t.Errorf("%+v", e)
			}
		}
		twice, err := parse("f", []byte(again))
		if err != nil || len(twice) != len(all) {
			t.Fatalf("%q: %v", again, err)
		}
		proofs := make(map[Proof]bool)
		for i, e := range twice {
			e.Line = all[i].Line
			if e != all[i] || proofs[e.Proof] {
				t.Errorf("%+v was %+v", e, all[i])
			}
			proofs[e.Proof] = true
		}
	})
}
