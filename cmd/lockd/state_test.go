package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A file is made for a first start, once, and shown, also while a server has it.
func TestState(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	code, out, errs := run("state", "new", path)
	if code != 0 || out != "" || errs != "" {
		t.Fatalf("new: %d, %q, %q", code, out, errs)
	}
	if code, _, errs := run("state", "new", path); code != 1 || !strings.Contains(errs, "there is one already") {
		t.Errorf("new again: %d, %q", code, errs)
	}
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--state", path)
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("hello 2", "2 lockd "+version(t))
	fmt.Fprintln(c, "0 keep 20000")
	if got, err := c.in.ReadString('\n'); !strings.HasPrefix(got, "0 20000 Kept: ") {
		t.Fatalf("keep: %q, %v", got, err)
	}
	code, out, errs = run("state", "show", path)
	if want := regexp.MustCompile(`(?s)^start of the machine  .*\nkept clients          1, for 20s\ntokens                below \d+ \(.*\)\n$`); code != 0 || !want.MatchString(out) || errs != "" {
		t.Errorf("show: %d, %q, %q", code, out, errs)
	}
	if code, _, errs := run("serve", "-t", anyPort, "--admin", "off", "--state", path); code == 0 || !strings.Contains(errs, "another server has it") {
		t.Errorf("a second server: %d, %q", code, errs)
	}
	other := filepath.Join(t.TempDir(), "other")
	os.WriteFile(other, []byte("hello\n"), 0o600)
	for _, args := range [][]string{{"state", "show", other}, {"serve", "-t", anyPort, "--admin", "off", "--state", other}} {
		if code, _, errs := run(args...); code == 0 || !strings.Contains(errs, "ove it away") {
			t.Errorf("%q of another file: %d, %q", args, code, errs)
		}
	}
}
