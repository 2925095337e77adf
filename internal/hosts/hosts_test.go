package hosts

import "testing"

func TestHas(t *testing.T) {
	t.Parallel()
	some, err := Parse([]string{"Lock.Example.com", "other.example.", "lock"})
	if err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]bool{
		"": true, "localhost": true, "localhost:9998": true, "LOCALHOST": true, "localhost.": true,
		"127.0.0.1": true, "127.0.0.1:9998": true, "192.0.2.1:80": true, "[::1]": true, "[::1]:9998": true, "[2001:db8::1]:80": true,
		"lock.example.com": true, "lock.example.com:9998": true, "LOCK.example.COM.:9998": true, "other.example:1": true, "lock": true,
		"evil.example": false, "evil.example:9998": false, "x.lock.example.com": false, "lock.example.com.evil.example": false,
		"example.com": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "127.0.0.1.": true,
		"evil.localhost": false, "0x7f.1": false, "2130706433": false, "127.1": false, "*": false, ":9998": false, "localhost:9998:1": false,
		"[evil.example]": false, "user@localhost": false, "evil.example/localhost": false,
	} {
		if got := some.Has(header); got != want {
			t.Errorf("%q: %v", header, got)
		}
	}
	var none Allowed
	if none.Has("lock.example.com") || !none.Has("127.0.0.1:9998") {
		t.Error("without names")
	}
	all, err := Parse([]string{"x", "*"})
	if err != nil || !all.Has("evil.example:9998") {
		t.Errorf("with *: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "http://lock.example.com", "lock.example.com:9998", "*.example.com", "a b", "a/b", "[::1]", "a,b", "x\n", "user@x"} {
		if got, err := Parse([]string{"ok", name}); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
}
