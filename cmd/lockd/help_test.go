package main_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestHelp: every command explains itself, by whatever spelling, on stdout and
// within 80 columns.
func TestHelp(t *testing.T) {
	t.Parallel()
	wants := map[string]string{
		"": `
Try it, with lockd running in another terminal:

    lockd shell
`,
		"serve": "--drain-timeout", "run": "--kill-after", "completion": "source <(lockd completion bash)", "inspect": "neither is", "dump": "NAME*", "kick": "--yes", "losses": "wait_given_up", "drop": "lockd dump -l", "who": "clients",
		"stats": "--json", "top": "Enter  ", "ping": "rtt_ms", "bench": "redis://", "shell": "was no request", "help": "[<command>]", "version": "version", "cert": "ca-key.pem",
	}
	_, overview, _ := run("help")
	commands := []string{""}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+)\b`).FindAllStringSubmatch(overview, -1) {
		commands = append(commands, m[1])
	}
	for command := range wants {
		if !slices.Contains(commands, command) {
			t.Errorf("the overview lacks %s", command)
		}
	}
	for _, command := range commands {
		spellings := [][]string{{command, "-h"}, {command, "--help"}, {"help", command}}
		if command == "" {
			spellings = [][]string{{"-h"}, {"--help"}, {"help"}}
		}
		var first string
		for i, args := range spellings {
			code, out, stderr := run(args...)
			if code != 0 || stderr != "" || !strings.HasPrefix(out, "Usage: lockd") || !strings.Contains(out, wants[command]) {
				t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, out, stderr)
			}
			if i == 0 {
				first = out
			} else if out != first {
				t.Errorf("%q prints %q, %q prints %q", args, out, spellings[0], first)
			}
		}
		for line := range strings.Lines(first) {
			if len(strings.TrimSuffix(line, "\n")) > 80 {
				t.Errorf("%s: a line of %d characters: %q", command, len(line), line)
			}
		}
		if command == "" || command == "serve" {
			if !strings.Contains(first, "$LOCKD_TCP") {
				t.Errorf("%s: no $LOCKD_TCP in %s", command, first)
			}
			continue
		}
		if strings.Contains(first, "--server=") != strings.Contains(first, "$LOCKD_SERVER") {
			t.Errorf("%s: $LOCKD_SERVER in %s", command, first)
		}
		for _, name := range []string{"$LOCKD_NAME", "$LOCKD_TOKEN", "$LOCKD_SHARED", "$LOCKD_WAIT", "$LOCKD_JSON", "$LOCKD_EMPTY_NAME", "$LOCKD_RATE"} {
			if strings.Contains(first, name+")") {
				t.Errorf("%s: the environment sets %s", command, name)
			}
		}
	}
	for _, args := range [][]string{{"help", "nosuch"}, {"help", "run", "nosuch"}, {"help", "serve", "-t"}} {
		if code, stdout, stderr := run(args...); code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// TestHelpOfExamples: they are programs to try, so they say how.
func TestHelpOfExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"client", "middleware", "ratelimit"} {
		example := t.TempDir() + "/" + name
		if out, err := exec.Command("go", "build", "-o", example, "../../examples/"+name).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, flag := range []string{"-h", "--help"} {
			out, err := exec.Command(example, flag).Output()
			if err != nil || !strings.HasPrefix(string(out), "usage: "+name) || strings.Count(string(out), "\n") < 5 {
				t.Errorf("%s %s: %v, %q", name, flag, err, out)
			}
			for line := range strings.Lines(string(out)) {
				if len(strings.TrimSuffix(line, "\n")) > 80 {
					t.Errorf("%s: a line of %d characters: %q", name, len(line), line)
				}
			}
		}
		cmd := exec.Command(example, "--bogus")
		if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 2 || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%s --bogus: %v, %q", name, cmd.ProcessState, out)
		}
	}
}
