package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func openAt(t *testing.T, path string) *history {
	t.Helper()
	h, err := openHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestHistoryIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lockd", "history")
	h := openAt(t, path)
	other := openAt(t, path) // of another shell
	for i := range 3 * historyLength {
		h.Add(fmt.Sprint("g ", i))
	}
	other.Add("g other")
	if h.Len() != historyLength || h.At(0) != "g 2999" || h.At(historyLength-1) != "g 2000" {
		t.Errorf("%d lines, %q to %q", h.Len(), h.At(historyLength-1), h.At(0))
	}
	next := openAt(t, path)
	if next.Len() != historyLength || next.At(0) != "g other" || next.At(1) != "g 2999" {
		t.Errorf("%d lines, %q, %q", next.Len(), next.At(0), next.At(1))
	}
	other.Add("g other again") // though the file has been written anew since
	next.Add("g last")
	text, err := os.ReadFile(path)
	if lines := strings.Count(string(text), "\n"); err != nil || lines != historyLength+2 || !strings.HasSuffix(string(text), "\ng other\ng other again\ng last\n") {
		t.Errorf("the file has %d lines, %v", lines, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestHistoryIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such modes")
	}
	path := filepath.Join(t.TempDir(), "history")
	if err := os.WriteFile(path, []byte("g a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h := openAt(t, path)
	for _, line := range []string{"auth x", "AUTH x", " auth  x", "0 auth x", "", "  ", "g a"} {
		h.Add(line)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "g a\n" || h.Len() != 1 {
		t.Errorf("%q, %v, %d lines", text, err, h.Len())
	}
	h.Add("g auth")
	h.Add("g auth")
	if h.Len() != 2 || h.At(0) != "g auth" || h.At(1) != "g a" {
		t.Errorf("%q", h.lines)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// For those who want none.
	if err := os.Symlink(os.DevNull, path); err != nil {
		t.Fatal(err)
	}
	h = openAt(t, path)
	h.Add("g a")
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() || h.Len() != 1 {
		t.Errorf("%v, %v, %d lines", info.Mode(), err, h.Len())
	}
}

func TestHistoryPath(t *testing.T) {
	for _, test := range []struct{ state, want string }{
		{"/s", "/s/lockd/history"},
		{"", "/h/.local/state/lockd/history"},
		{"relative", "/h/.local/state/lockd/history"},
	} {
		t.Setenv("XDG_STATE_HOME", test.state)
		t.Setenv("HOME", "/h")
		t.Setenv("LOCALAPPDATA", "")
		if got, err := historyPath(); runtime.GOOS != "windows" && (got != test.want || err != nil) {
			t.Errorf("XDG_STATE_HOME=%s: %s, %v, want %s", test.state, got, err, test.want)
		}
	}
}

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"a\tb caf\u00e9": "a\tb caf\u00e9", "\x1b[m\x00": `\u001b[m\u0000`, "\xff\xc3": `\xff\xc3`, "\u202e": `\u202e`,
	} {
		if got := visible(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestHoldings(t *testing.T) {
	var h holdings
	for _, reply := range []string{
		"17 Lock Get Success: a", "17 Lock Get Success: a", "1 Shared Lock Get Success: a", "2 Shared Lock Get Success: b",
		"0 Lock Release Failure: a", "1 Lock Release Success: c", "1 Shared Lock Release Success: b", "0 Lock Get Failure: d", "1 ok",
	} {
		h.note(reply)
	}
	if got := h.end("released"); got != "2 locks are released: a, a (shared)" {
		t.Error(got)
	}
	if got := h.end("released"); got != "" {
		t.Error(got)
	}
	for i := range 10 {
		h.note(fmt.Sprint("1 Lock Get Success: ", i))
	}
	if got := h.end("lost"); got != "10 locks are lost: 0, 1, 2, 3, 4, 5, 6, 7, ..." {
		t.Error(got)
	}
	h.note("1 Lock Get Success: a")
	h.note("1 bye")
	if got := h.end("lost"); got != "" {
		t.Error(got)
	}
}
