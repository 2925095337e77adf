package main_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// bashCompletion is what the package of that name has for all programs.
const bashCompletion = "/usr/share/bash-completion/bash_completion"

// shellRuns are how a shell starts, and how it makes lockd print its arguments.
var shellRuns = map[string]struct {
	shell string
	args  []string
	begin string
}{
	"bash":            {"bash", []string{"--noprofile", "--norc", "-i"}, `bind 'set bell-style none'; lockd() { printf '<%s>' "$@"; echo; }; `},
	"bash-completion": {"bash", []string{"--noprofile", "--norc", "-i"}, `bind 'set bell-style none'; source ` + bashCompletion + `; lockd() { printf '<%s>' "$@"; echo; }; `},
	"zsh":             {"zsh", []string{"-f", "-i"}, `unsetopt beep; autoload -U compinit; compinit -D -u; lockd() { printf '<%s>' "$@"; echo; }; `},
	"fish":            {"fish", []string{"--no-config", "-i"}, `function lockd; printf '<%s>' $argv; echo; end; function fish_prompt; end; `},
}

// completions returns a file of what lockd prints for a shell, which is there.
func completions(t *testing.T, shell string) (program, file string) {
	t.Helper()
	program, err := exec.LookPath(shell)
	if err != nil {
		t.Skip("there is no ", shell)
	}
	code, out, stderr := run("completion", shell)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	file = filepath.Join(t.TempDir(), "lockd."+shell)
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	return program, file
}

// TestCompletions types at the shells themselves: Tab goes on, and Enter shows
// what has become of the line.
func TestCompletions(t *testing.T) {
	t.Parallel()
	lines := []struct{ typed, want string }{
		{"lockd insp\t", "<inspect>"},
		{"lockd token rem\t", "<token><remove>"},
		{"lockd --auth-f\tx", "<--auth-file><x>"},
		{"lockd -t 9 --log-f\tjson", "<-t><9><--log-format><json>"},
		{"lockd --tcp 127.0.0.1:9999 --drain-t\t5", "<--tcp><127.0.0.1:9999><--drain-timeout><5>"},
		{"lockd serve --log-format js\t", "<serve><--log-format><json>"},
		{"lockd serve --log-format=js\t", "<serve><--log-format=json>"},
		{"lockd bench --mix inspe\t", "<bench><--mix><inspect>"},
		{"lockd inspect -s tcp://127.0.0.1:1 --excl\t", "<inspect><-s><tcp://127.0.0.1:1><--exclusive>"},
		{"lockd token add --rol\tread", "<token><add><--role><read>"},
		{"lockd --auth-file zzf\t", "<--auth-file><zzfile with blanks>"},
		{"lockd cert zzd\t", "<cert><zzdirectory/>"},
		{"lockd help insp\t", "<help><inspect>"},
		{"lockd completion fi\t", "<completion><fish>"},
		{"lockd run x --kill\t5", "<run><x><--kill-after><5>"},
		{"lockd run x zzpro\t", "<run><x><zzprogram>"},
		{"lockd run 'a b' -- zzpro\t", "<run><a b><--><zzprogram>"},
		{"lockd run --wait 5 x zzprogram zzf\t", "<run><--wait><5><x><zzprogram><zzfile with blanks>"},
		// Not lockd's own flag, and no file where none is wanted.
		{"lockd run x -- zzprogram --kill\t", "<run><x><--><zzprogram><--kill>"},
		{"lockd inspect zzf\t", "<inspect><zzf>"},
		{"lockd --tcp zzf\t", "<--tcp><zzf>"},
	}
	for name, how := range shellRuns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := os.Stat(bashCompletion); err != nil && name == "bash-completion" {
				t.Skip(err)
			}
			program, file := completions(t, how.shell)
			dir := t.TempDir()
			for name, mode := range map[string]os.FileMode{"zzfile with blanks": 0o644, "zzprogram": 0o755} {
				path := filepath.Join(dir, "files", name)
				if mode == 0o755 {
					path = filepath.Join(dir, "bin", name)
				}
				os.MkdirAll(filepath.Dir(path), 0o755)
				if err := os.WriteFile(path, []byte("#!/bin/sh\n"), mode); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Mkdir(filepath.Join(dir, "files", "zzdirectory"), 0o755); err != nil {
				t.Fatal(err)
			}
			env := []string{
				"TERM=dumb", "PS1=", "INPUTRC=/dev/null", "HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir,
				"PATH=" + filepath.Join(dir, "bin") + ":" + os.Getenv("PATH"),
			}
			term := openTerminalWith(t, env, append([]string{program}, how.args...)...)
			fmt.Fprintf(term, "%s source '%s'; cd '%s'; echo rea''dy\n", how.begin, file, filepath.Join(dir, "files"))
			term.shows("ready\r\n")
			for i, line := range lines {
				io.WriteString(term, line.typed+"\n")
				got := term.until(">\r\n")
				_, args, _ := strings.Cut(got, "<")
				args = "<" + strings.TrimSuffix(args, "\r\n")
				if how.shell == "zsh" { // which goes on as --flag=, and takes a slash away again
					same := strings.NewReplacer("=", "><", "/>", ">")
					args, line.want = same.Replace(args), same.Replace(line.want)
				}
				if args != line.want {
					t.Errorf("%q becomes %q, not %q", line.typed, got, line.want)
				}
				fmt.Fprintf(term, "echo next''%d\n", i)
				term.shows(fmt.Sprintf("next%d\r\n", i))
			}
		})
	}
}

// helpOf returns the commands, and the flags that each one's help shows.
func helpOf(t *testing.T) map[string][]string {
	t.Helper()
	_, overview, _ := run("help")
	flags := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+(?: [a-z]+)?)\b`).FindAllStringSubmatch(overview, -1) {
		code, text, stderr := run(append(strings.Fields(m[1]), "--help")...)
		if code != 0 {
			t.Fatalf("%s --help: %s", m[1], stderr)
		}
		for _, f := range regexp.MustCompile(`(?m)^ +(?:-., )?--([a-z-]+)`).FindAllStringSubmatch(text, -1) {
			if i := strings.Index(text, "\nFlags:"); strings.Index(text, f[0]) > i { // not in an example
				flags[m[1]] = append(flags[m[1]], "--"+f[1])
			}
		}
		slices.Sort(flags[m[1]])
		flags[m[1]] = slices.Compact(flags[m[1]])
	}
	if len(flags) < 15 || len(flags["serve"]) < 30 || len(flags["token add"]) != 3 {
		t.Fatalf("found %v in the help", flags)
	}
	return flags
}

// TestCompletionsKnowAll: each flag of each command's help is completed.
func TestCompletionsKnowAll(t *testing.T) {
	t.Parallel()
	known := helpOf(t)
	for shell, list := range map[string]string{
		"bash": `source "$1"; COMP_LINE="lockd $2 --" COMP_WORDS=(lockd $2 --) COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lockd; printf '%s\n' "${COMPREPLY[@]}"`,
		"fish": `source $argv[1]; complete -C "lockd $argv[2] --" | string replace -r '\t.*' ''`,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			program, file := completions(t, shell)
			args := []string{"--norc", "-c", list, "-"}
			if shell == "fish" {
				args = []string{"--no-config", "-c", list}
			}
			for command, flags := range known {
				out, err := exec.Command(program, append(args, file, command)...).CombinedOutput()
				got := strings.Fields(string(out))
				slices.Sort(got)
				if err != nil || !slices.Equal(got, flags) {
					t.Errorf("%s: %v, got %q, not %q", command, err, got, flags)
				}
			}
		})
	}
	t.Run("zsh", func(t *testing.T) { // whose completions need a terminal
		_, text, _ := run("completion", "zsh")
		for command, flags := range known {
			_, function, _ := strings.Cut(text, "\n_lockd_"+strings.ReplaceAll(command, " ", "_")+"() {\n")
			function, _, _ = strings.Cut(function, "\n}\n")
			for _, flag := range flags {
				if !regexp.MustCompile(`[*)]` + flag + `[=\[]`).MatchString(function) {
					t.Errorf("%s: no %s", command, flag)
				}
			}
		}
	})
}

// TestManualPages: there is one for each command, with all of its flags, and
// nothing in them that man, or mandoc, minds.
func TestManualPages(t *testing.T) {
	t.Parallel()
	known := helpOf(t)
	dir := t.TempDir()
	if code, out, stderr := run("man", dir); code != 0 || out != "" || stderr != "" {
		t.Fatalf("exit code %d, %s%s", code, out, stderr)
	}
	for command, flags := range known {
		page := filepath.Join(dir, "lockd-"+strings.ReplaceAll(command, " ", "-")+".1")
		if command == "serve" {
			page = filepath.Join(dir, "lockd-serve.8")
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, flag := range flags {
			if !strings.Contains(string(text), `\fB`+strings.ReplaceAll(flag, "-", `\-`)+`\fR`) {
				t.Errorf("%s: no %s", page, flag)
			}
		}
	}
	pages, _ := filepath.Glob(dir + "/*.[18]")
	if len(pages) != len(known)+1 {
		t.Errorf("%d pages for %d commands: %q", len(pages), len(known), pages)
	}
	for _, page := range pages {
		text, _ := os.ReadFile(page)
		for _, m := range regexp.MustCompile(`(?m)^\.BR (\S+) \((\d)\)`).FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(m[1], `\`, "")+"."+m[2])); err != nil {
				t.Errorf("%s leads to %v", page, err)
			}
		}
		if path, err := exec.LookPath("man"); err == nil {
			cmd := exec.Command(path, "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			if err := cmd.Run(); err != nil || stderr.Len() > 0 {
				t.Errorf("man %s: %v, %s", page, err, &stderr)
			}
		}
		if path, err := exec.LookPath("mandoc"); err == nil {
			if out, err := exec.Command(path, "-Tlint", "-Wwarning", page).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("mandoc: %v, %s", err, out)
			}
		}
	}
}

// TestManualDate: the pages have the same bytes whenever they are made.
func TestManualDate(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary, "man", t.TempDir())
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=86400")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v, %s", err, out)
	}
	page, err := os.ReadFile(filepath.Join(cmd.Args[2], "lockd.1"))
	if err != nil || !strings.Contains(string(page), "\n.TH LOCKD 1 1970-01-02 ") {
		t.Errorf("%v, %s", err, page)
	}
	cmd = exec.Command(binary, "man", t.TempDir())
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=yesterday")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), `SOURCE_DATE_EPOCH is no number of seconds: "yesterday"`) {
		t.Errorf("%v, %s", err, out)
	}
	if code, _, stderr := run("man", filepath.Join(t.TempDir(), "nowhere")); code != 1 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}
