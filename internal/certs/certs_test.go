package certs

import (
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const day = 24 * time.Hour

// put writes what a server needs, all of which ends at some time, and returns the
// files.
func put(t *testing.T, certEnd, caEnd time.Time) Files {
	t.Helper()
	now := time.Now()
	ca, err := NewAuthority("tests", now, caEnd)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server([]string{"localhost", "::1"}, now, certEnd)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := Files{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem")}
	for path, content := range map[string][]byte{f.Cert: pair.Cert, f.Key: pair.Key, f.ClientCA: ca.Cert} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// What ends soon, or has ended, is warned of each day; the next look is in time for
// that.
func TestWarnings(t *testing.T) {
	now := time.Now()
	certEnd := now.Add(30 * day).Truncate(time.Second)
	caEnd := now.Add(40 * day).Truncate(time.Second)
	s, err := Open(put(t, certEnd, caEnd), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := s.Expiry(); !got.Equal(certEnd) {
		t.Errorf("it ends %v, not %v", got, certEnd)
	}
	for _, c := range []struct {
		at   time.Time
		wait time.Duration
		log  []string
	}{
		{now.Add(-2 * day), day, []string{"not valid yet", "not valid yet"}},
		{now.Add(-2 * time.Hour), 0, []string{"not valid yet", "not valid yet"}},
		{now, day, nil},
		{certEnd.Add(-soon - time.Hour), time.Hour, nil},
		{certEnd.Add(-soon), day, []string{"cert.pem of=CN=localhost", "days=14"}},
		{certEnd.Add(-time.Hour), time.Hour, []string{"days=0", "ca.pem"}},
		{certEnd, day, []string{"has expired", "days=10"}},
		{caEnd.Add(day), day, []string{"cert.pem", "ca.pem"}},
	} {
		var log strings.Builder
		s.log = slog.New(slog.NewTextHandler(&log, nil))
		wait := s.warn(c.at)
		if c.wait > 0 && wait != c.wait {
			t.Errorf("at %v: looks again after %v, not %v", c.at, wait, c.wait)
		}
		if wait <= 0 || wait > day {
			t.Errorf("at %v: looks again after %v", c.at, wait)
		}
		if n := strings.Count(log.String(), "\n"); c.log == nil && n > 0 || c.log != nil && n == 0 {
			t.Errorf("at %v: %d lines:\n%s", c.at, n, log.String())
		}
		for _, want := range c.log {
			if !strings.Contains(strings.ReplaceAll(log.String(), `"`, ""), want) {
				t.Errorf("at %v: no %q in\n%s", c.at, want, log.String())
			}
		}
	}
}

// Of several authorities in a file the last one to end counts: an old one may stay
// beside its successor.
func TestOldAuthorityBesideNew(t *testing.T) {
	now := time.Now()
	f := put(t, now.Add(100*day), now.Add(100*day))
	old, err := NewAuthority("old", now.Add(-10*day), now.Add(-day))
	if err != nil {
		t.Fatal(err)
	}
	both, err := os.ReadFile(f.ClientCA)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.ClientCA, append(old.Cert, both...), 0o600); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	s, err := Open(f, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if log.Len() > 0 {
		t.Errorf("the log:\n%s", log.String())
	}
}

// What an authority issues ends with it, and it is none itself.
func TestAuthority(t *testing.T) {
	now := time.Now()
	ca, err := NewAuthority("tests", now, now.Add(day))
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadAuthority(ca.Pair)
	if err != nil {
		t.Fatal(err)
	}
	client, err := again.Client("web1", now, now.Add(10*day))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadAuthority(client); err == nil {
		t.Error("a client's certificate is taken for an authority's")
	}
	dir := t.TempDir()
	f := Files{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k")}
	os.WriteFile(f.Cert, client.Cert, 0o600)
	os.WriteFile(f.Key, client.Key, 0o600)
	cert, err := readPair(f.Cert, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	if got := cert.Leaf.NotAfter; got.After(now.Add(day)) {
		t.Errorf("it ends %v, after its authority", got)
	}
}

// What is to be said of the files when they are read is said once.
func TestWarnsOnce(t *testing.T) {
	now := time.Now()
	for range 20 { // whether watch or the first load comes first is a matter of chance
		var log lockedBuffer
		f := put(t, now.Add(day), now.Add(30*day))
		if err := os.Chmod(f.Key, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := Open(f, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		for range 1000 {
			if len(s.changed) == 0 && log.count("expires soon") > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		s.Close()
		if n := log.count("expires soon"); n != 1 {
			t.Fatalf("%d warnings of one certificate", n)
		}
		want := 1
		if runtime.GOOS == "windows" {
			want = 0
		}
		if n := log.count("chmod o-r " + f.Key); n != want {
			t.Fatalf("%d warnings of a key that others can read", n)
		}
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), what)
}
