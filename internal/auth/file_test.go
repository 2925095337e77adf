package auth

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func loaded(t *testing.T, text string) (*File, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth")
	write(t, path, text)
	f := NewFile(path)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	return f, path
}

func TestLookUp(t *testing.T) {
	f, _ := loaded(t, "ci lock:deploy/ "+digits("one")+"\nci lock:deploy/ "+digits("two")+"\ngrafana read cert\nbackup admin uid:34\n")
	for _, c := range []struct {
		got  *session.Access
		want string
	}{
		{f.Token([]byte("one")), "ci lock:deploy/"}, {f.Token([]byte("two")), "ci lock:deploy/"},
		{f.Token([]byte("On")), ""}, {f.Token([]byte("one ")), ""}, {f.Token(nil), ""}, {f.Token([]byte("grafana")), ""}, {f.Token([]byte("cert")), ""},
		{f.Token([]byte(digits("one"))), ""},
		{f.Cert("grafana"), "grafana read"}, {f.Cert("Grafana"), ""}, {f.Cert(""), ""}, {f.Cert("ci"), ""}, {f.Cert("backup"), ""},
		{f.UID(34), "backup admin"}, {f.UID(0), ""},
	} {
		got := ""
		if c.got != nil {
			got = c.got.Name + " " + RoleWord(c.got.Role, c.got.Prefix)
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if !f.Certs() || !f.Users() {
		t.Error("it knows nothing of certificates and users")
	}
}

// A file that is read again: what stays is the same, what has changed is replaced,
// what has gone is nobody's. One that is wrong changes nothing.
func TestLoadAgain(t *testing.T) {
	f, path := loaded(t, "a lock "+digits("a")+"\nb lock "+digits("b")+"\nc lock cert\nd lock uid:1\ne read cert\n")
	a, b, c, d, e := f.Token([]byte("a")), f.Token([]byte("b")), f.Cert("c"), f.UID(1), f.Cert("e")
	for _, wrong := range []string{"", "a lock " + digits("a") + "\nb lock\n"} {
		write(t, path, wrong)
		if err := f.Load(); err == nil {
			t.Errorf("%q is right", wrong)
		}
		if f.Token([]byte("b")) != b || b.Current() != b || f.Cert("c") != c {
			t.Errorf("%q has changed something", wrong)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Load(); err == nil || !strings.Contains(err.Error(), path) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("%v", err)
	}
	write(t, path, "# new\nf read "+digits("f")+"\nd read uid:1\na  lock "+digits("a")+" # still\ne2 read cert\nc lock:x cert\n")
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	if f.Token([]byte("a")) != a || a.Current() != a {
		t.Error("a is another one")
	}
	if f.Token([]byte("b")) != nil || b.Current() != nil || f.Cert("e") != nil || e.Current() != nil {
		t.Error("b and e are still there")
	}
	if now := f.Cert("c"); now == c || c.Current() != now || now.Prefix != "x" {
		t.Errorf("c is %+v", now)
	}
	if now := f.UID(1); d.Current() != now || now.Role != session.RoleRead {
		t.Errorf("d is %+v", now)
	}
	// Twice more, for who has not asked in between.
	write(t, path, "c lock:y cert\n")
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	if now := f.Cert("c"); c.Current() != now || now.Prefix != "y" || a.Current() != nil {
		t.Errorf("c is %+v", now)
	}
}

func TestWarnings(t *testing.T) {
	f, path := loaded(t, "a lock uid:1\n")
	if got := f.Warnings(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	write(t, path, "a lock uid:1\nb lock uid:65534\n")
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	if got := f.Warnings(); runtime.GOOS == "linux" && (len(got) != 1 || !strings.Contains(got[0], "line 2 of the auth file")) {
		t.Errorf("%q", got)
	}
	write(t, path, "# nobody\n")
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o646); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(f.Warnings(), "\n")
	if !strings.Contains(got, "lets nobody in") || runtime.GOOS != "windows" && !strings.Contains(got, "chmod o-w "+path) {
		t.Errorf("%q", got)
	}
}

func TestTooLarge(t *testing.T) {
	f, path := loaded(t, strings.Repeat("#", largest))
	write(t, path, strings.Repeat("#", largest+1))
	if err := f.Load(); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("%v", err)
	}
}
