package wire

import (
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		in   string
		n    uint64
		rest string
		ok   bool
	}{
		{"0", 0, "", true},
		{"7 foo", 7, "foo", true},
		{"7 ", 7, "", true},
		{"007 foo bar", 7, "foo bar", true},
		{"86400000 x", 86400000, "x", true},
		{"4294967295", 4294967295, "", true},
		{"9999999999999999999", 9999999999999999999, "", true},
		{"10000000000000000000", 0, "", false}, // one digit more than is read
		{"18446744073709551616", 0, "", false},
		{strings.Repeat("0", 30), 0, "", false},
		{"", 0, "", false},
		{" 7", 0, "", false},
		{"x", 0, "", false},
		{"7x", 0, "", false},
		{"-7", 0, "", false},
		{"+7", 0, "", false},
		{"7.0", 0, "", false},
		{"7\x00", 0, "", false},
		{"/", 0, "", false},
		{":", 0, "", false},
	} {
		n, rest, ok := Number([]byte(c.in))
		if n != c.n || string(rest) != c.rest || ok != c.ok {
			t.Errorf("%q: %d, %q, %v", c.in, n, rest, ok)
		}
	}
}

// As strconv has it, as far as 19 digits go.
func TestNumberLikeStrconv(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.OneOf(rapid.StringMatching(`[0-9]{0,22}`), rapid.StringMatching(`[0-9+\-x. ]{0,5}`)).Draw(t, "word")
		rest := rapid.SampledFrom([]string{"", " ", " a", " a b", " 5"}).Draw(t, "rest")
		digits, after, _ := strings.Cut(word+rest, " ")
		want, err := strconv.ParseUint(digits, 10, 64)
		if strings.HasPrefix(digits, "+") || len(digits) > 19 {
			err = strconv.ErrSyntax
		}
		n, got, ok := Number([]byte(word + rest))
		if ok != (err == nil) || ok && (n != want || string(got) != after) {
			t.Fatalf("%q: %d, %q, %v", word+rest, n, got, ok)
		}
	})
}

func TestAppendRateLimited(t *testing.T) {
	if got := string(AppendRateLimited([]byte("x"), 1500, []byte("a b"))); got != "x0 Rate Limited 1500 ms: a b\n" {
		t.Errorf("%q", got)
	}
}
