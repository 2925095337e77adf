//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	statefile "github.com/nylen/lockd/internal/state"
)

// printers are all ways to have lockd print something, for a server, and the
// exit codes when that works.
func printers(t *testing.T, server string) (all [][]string, codes []int) {
	t.Helper()
	add := func(code int, args ...string) { all, codes = append(all, args), append(codes, code) }
	add(0, "--help")
	add(0, "help")
	add(0, "help", "run")
	add(0, "version")
	add(0, "--version")
	add(1, "inspect", "free", "-s", server)
	add(1, "inspect", "free", "-s", server, "--json")
	add(0, "inspect", "held", "-s", server)
	for _, command := range []string{"dump", "losses", "who", "stats", "ping"} {
		add(0, command, "-s", server)
		add(0, command, "-s", server, "--json")
	}
	add(0, "top", "-s", server)
	add(0, "completion", "bash")
	add(0, "bench", "-s", server, "-c", "1", "-n", "10", "--warmup", "0s")
	add(0, "bench", "-s", server, "-c", "1", "-n", "10", "--warmup", "0s", "--json")
	add(0, "bench", "-s", server, "-c", "1", "-n", "10", "--warmup", "0s", "--short")

	file := stateFile(t)
	add(0, "state", "show", file)

	known := map[string]bool{
		"serve": true, "proxy": true, "run": true, "shell": true, // they print their help only
		"kick": true, "drop": true, // they need somebody to kick, or a rate, each time
		"cluster": true,                // it needs an etcd: test/cluster asks it
		"cert":    true, "token": true, // they write files, and say so on stderr
	}
	for _, args := range all {
		known[args[0]] = true
	}
	_, overview, _ := run("--help")
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)\b`).FindAllStringSubmatch(overview, -1) {
		if !known[m[1]] {
			t.Errorf("the command %s is missing here", m[1])
		}
		add(0, m[1], "--help")
	}
	return all, codes
}

// stateFile is one of a server that is started for the first time.
func stateFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := statefile.New(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// printTo runs lockd with its output to a file.
func printTo(stdout *os.File, command ...string) (state *os.ProcessState, stderr string) {
	cmd := exec.Command(command[0], command[1:]...)
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &errs
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Run()
	return cmd.ProcessState, errs.String()
}

func beginPrinting(t *testing.T) (server string) {
	t.Helper()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	c := dial(t, "tcp", d.addr("tcp"))
	c.ask("g held", "1 Lock Get Success: held")
	c.ask("iam me", "1 ok")
	return d.addr("tcp")
}

// TestOutputThatCannotBeWritten: it is told, and has a code of its own, which
// nobody takes for an answer.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	all, _ := printers(t, beginPrinting(t))
	for _, test := range []struct {
		path string
		flag int
		want string
	}{
		{"/dev/full", os.O_WRONLY, "no space left on device"},
		{os.DevNull, os.O_RDONLY, "bad file descriptor"},
	} {
		out, err := os.OpenFile(test.path, test.flag, 0)
		if err != nil {
			t.Log(err) // not Linux
			continue
		}
		defer out.Close()
		for _, args := range all {
			state, stderr := printTo(out, append([]string{binary}, args...)...)
			if want := "lockd: cannot write the output: " + test.want + "\n"; state.ExitCode() != 74 || stderr != want {
				t.Errorf("%q: %v, %q, want exit code 74, %q", args, state, stderr, want)
			}
		}
	}
}

// TestOutputIsClosed: then the runtime has opened /dev/null in its place, so
// that nothing else gets its number. What programs start that want no output
// looks the same; so it is no error.
func TestOutputIsClosed(t *testing.T) {
	t.Parallel()
	all, codes := printers(t, beginPrinting(t))
	for i, args := range all {
		state, stderr := printTo(nil, append([]string{"sh", "-c", `exec "$@" >&-`, "-", binary}, args...)...)
		if state.ExitCode() != codes[i] || stderr != "" {
			t.Errorf("%q: %v, %q, want exit code %d", args, state, stderr, codes[i])
		}
	}
}

// TestOutputNobodyReads: SIGPIPE ends lockd like any program, without a word.
func TestOutputNobodyReads(t *testing.T) {
	t.Parallel()
	all, _ := printers(t, beginPrinting(t))
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	for _, args := range all {
		state, stderr := printTo(w, append([]string{binary}, args...)...)
		if status := state.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGPIPE || stderr != "" {
			t.Errorf("%q: %v, %q", args, state, stderr)
		}
	}
}

// TestOneWayOut: nothing is printed, and no process ended, around output.go.
func TestOneWayOut(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := f.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || name == "output.go" {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, way := range regexp.MustCompile(`os\.Exit\(|fmt\.Print|os\.Stdout`).FindAllString(string(text), -1) {
			// lockd run gives its output to the command.
			if !(way == "os.Stdout" && strings.HasPrefix(name, "run_")) {
				t.Errorf("%s has %s", name, way)
			}
		}
	}
}

// TestWatchingEndsWhenNobodyCanSee: it would ask the server for ever.
func TestWatchingEndsWhenNobodyCanSee(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{}, {"--json"}} {
		state, stderr := printTo(full, append([]string{binary, "dump", "--watch", "--every", "0.01", "-s", d.addr("tcp")}, args...)...)
		if want := "lockd: cannot write the output: no space left on device\n"; state.ExitCode() != 74 || stderr != want {
			t.Errorf("%q: %v, stderr %q, want exit code 74, %q", args, state, stderr, want)
		}
	}
}
