package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// reference is what Parse means, said with what is at hand and not in place.
func reference(line string) (verb, name string) {
	words := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\r\v\f", r) })
	if len(words) == 0 {
		return "", ""
	}
	return words[0], strings.Join(words[1:], " ")
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ line, verb, name string }{
		{"", "", ""},
		{" \t\r\v\f ", "", ""},
		{"g", "g", ""},
		{"g ", "g", ""},
		{" g", "g", ""},
		{"g foo", "g", "foo"},
		{"g foo\r", "g", "foo"},
		{" g  foo", "g", "foo"}, // as glockc sends it
		{"g   a \t b ", "g", "a b"},
		{"g a\tb", "g", "a b"},
		{"g a\vb\fc\rd", "g", "a b c d"},
		{"g a  b", "g", "a b"},
		{"g a b  ", "g", "a b"},
		{"g a \r", "g", "a"},
		{"\tg\ta", "g", "a"},
		{"G Foo", "G", "Foo"},
		{"gfoo", "gfoo", ""},
		{"g\x00foo", "g\x00foo", ""},
		{"g \x00", "g", "\x00"},
		{"g a:b%20c", "g", "a:b%20c"},
		{"g \xff\xfe", "g", "\xff\xfe"},
		{"g \u00a0x\u2003y", "g", "\u00a0x\u2003y"}, // no-break and em space are no blanks
		{"g \u0085", "g", "\u0085"},
		{"g naïve – 世界", "g", "naïve – 世界"},
		{"dump shared", "dump", "shared"},
		{"g a\nb", "g", "a\nb"}, // cannot come, but nothing breaks
	} {
		checkParse(t, c.line, c.verb, c.name)
		if verb, name := reference(c.line); verb != c.verb || name != c.name {
			t.Errorf("the reference makes %q %q of %q", verb, name, c.line)
		}
	}
}

// Every line of up to six bytes out of those that matter.
func TestParseAllShort(t *testing.T) {
	const bytes = " \t\rga"
	line := make([]byte, 0, 6)
	var all func(n int)
	all = func(n int) {
		verb, name := reference(string(line))
		checkParse(t, string(line), verb, name)
		if n == 0 {
			return
		}
		for i := range len(bytes) {
			line = append(line, bytes[i])
			all(n - 1)
			line = line[:len(line)-1]
		}
	}
	all(6)
}

func checkParse(t *testing.T, line, wantVerb, wantName string) {
	t.Helper()
	const canary = "g  x  y\n"
	buf := append([]byte(line), canary...)
	in := buf[:len(line)]
	verb, name := Parse(in)
	if string(verb) != wantVerb || string(name) != wantName {
		t.Fatalf("Parse(%q) = %q, %q, want %q, %q", line, verb, name, wantVerb, wantName)
	}
	if string(buf[len(line):]) != canary {
		t.Fatalf("Parse(%q) wrote behind the line", line)
	}
	for _, part := range [][]byte{verb, name} {
		if len(part) > 0 && !within(part, in) {
			t.Fatalf("Parse(%q) has returned a slice of something else", line)
		}
	}
	// Its own result parses to itself, so every spelling of a request is one.
	again := []byte(string(verb) + " " + string(name))
	if v, n := Parse(again); string(v) != wantVerb || string(n) != wantName {
		t.Fatalf("Parse(%q) = %q, %q, but that parses to %q, %q", line, wantVerb, wantName, v, n)
	}
}

func within(part, whole []byte) bool {
	from := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	start := uintptr(unsafe.Pointer(unsafe.SliceData(whole)))
	return from >= start && from+uintptr(len(part)) <= start+uintptr(len(whole))
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		"", "g", "g foo", " g  foo", "g   a \t b ", "g foo\r", "\r\n", "sg a\vb\fc", "GET / HTTP/1.1\r",
		"g \xff\x00:%", "\u00a0g \u2003", "  ", "g  a", "g a  ",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		verb, name := reference(string(line))
		checkParse(t, string(line), verb, name)
		// None of these may panic on anything.
		IsHTTP(line)
		IsHTTPStart(line)
	})
}

func TestParseDoesNotAllocate(t *testing.T) {
	line := make([]byte, 64)
	for _, text := range []string{"g foo", " g  foo \t bar \r", ""} {
		if n := testing.AllocsPerRun(100, func() {
			Parse(line[:copy(line, text)])
		}); n != 0 {
			t.Errorf("%v allocations for %q", n, text)
		}
	}
}

func TestAppendReply(t *testing.T) {
	for _, number := range []uint64{0, 1, 2, 9, 10, 11, 99, 100, 12345, 1 << 53, 1<<64 - 1} {
		for _, text := range []string{GetSuccess, SharedIsLocked, ""} {
			for _, name := range []string{"", "a", "a b", "\x00\xff: %s", strings.Repeat("x", 5000)} {
				got := AppendReply([]byte("before\n"), number, text, []byte(name))
				if want := fmt.Sprintf("before\n%d %s%s\n", number, text, name); string(got) != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		}
	}
}

func TestAppendKey(t *testing.T) {
	for _, key := range []string{"", "name", "a: b", "\xff"} {
		if got, want := string(AppendKey([]byte("before\n"), []byte(key))), "before\n"+key+": "; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAppendingDoesNotAllocate(t *testing.T) {
	out, name := make([]byte, 0, 256), []byte("some name")
	if n := testing.AllocsPerRun(100, func() {
		out = AppendReply(out[:0], 1<<64-1, SharedGetSuccess, name)
		out = AppendReply(out, 1, GetSuccess, name)
		out = AppendKey(out, name)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The texts are what clients that exist compare with.
func TestTexts(t *testing.T) {
	for got, want := range map[string]string{
		GetSuccess:           "Lock Get Success: ",
		GetFailure:           "Lock Get Failure: ",
		ReleaseSuccess:       "Lock Release Success: ",
		ReleaseFailure:       "Lock Release Failure: ",
		IsLocked:             "Lock Is Locked: ",
		NotLocked:            "Lock Not Locked: ",
		SharedGetSuccess:     "Shared Lock Get Success: ",
		SharedReleaseSuccess: "Shared Lock Release Success: ",
		SharedReleaseFailure: "Shared Lock Release Failure: ",
		SharedIsLocked:       "Shared Lock Is Locked: ",
		SharedNotLocked:      "Shared Lock Not Locked: ",
		OK:                   "1 ok\n",
		Disabled:             "0 disabled\n",
		LineTooLong:          "0 Line Too Long\n",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestIsHTTP(t *testing.T) {
	for line, want := range map[string]bool{
		"GET / HTTP/1.1\r":                 true,
		"POST /x?a=b HTTP/1.0":             true,
		"g http://a/ HTTP/1.1":             true, // what is no verb is up to the caller
		"PRI * HTTP/2.0":                   true,
		"GET / HTTP/":                      true,
		"GET /":                            false,
		"GET / http/1.1":                   false,
		"GET HTTP/1.1":                     false, // no target
		"HTTP/1.1":                         false,
		"":                                 false,
		"g":                                false,
		"GET / HTTP/1.1 more":              false,
		"Host: example.com":                false,
		"User-Agent: curl/8 HTTP/1.1 tool": false,
	} {
		_, name := Parse([]byte(line))
		if got := IsHTTP(name); got != want {
			t.Errorf("IsHTTP(%q) = %v", line, got)
		}
	}
}

func TestIsHTTPStart(t *testing.T) {
	for line, want := range map[string]bool{
		"GET /" + strings.Repeat("x", 5000): true,
		"GET /":                             true,
		"POST http://example.com":           true,
		"OPTIONS https://example.com/":      true,
		"GET":                               false,
		"GET ":                              false,
		"GET foo":                           false,
		" GET /":                            false,
		"g /":                               false,
		"Get /":                             false,
		"M-SEARCH /":                        false,
		"":                                  false,
		" /":                                false,
	} {
		if got := IsHTTPStart([]byte(line)); got != want {
			t.Errorf("IsHTTPStart(%.40q) = %v", line, got)
		}
	}
}

func TestHTTPRefusal(t *testing.T) {
	head, body, ok := bytes.Cut([]byte(HTTPRefusal), []byte("\r\n\r\n"))
	if !ok || !bytes.HasPrefix(head, []byte("HTTP/1.1 400 ")) || len(body) == 0 {
		t.Errorf("not an HTTP response: %q", HTTPRefusal)
	}
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		if bytes.ContainsAny(line, "\r\n") {
			t.Errorf("a bare line end in %q", line)
		}
	}
}

func TestShortName(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{" a \t b\nc\r\nd ", 100, "a b c d"},
		{"abcdef", 6, "abcdef"},
		{"abcdef", 5, "abcde"},
		{"abc def", 4, "abc"},
		{"a\u00e9", 2, "a"},
		{"\u00e9", 1, ""},
		{"abc", 0, ""},
		{"abc", -3, ""},
	} {
		if got := ShortName(c.text, c.most); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.text, c.most, got, c.want)
		}
	}
}
