package clidoc

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// Fish writes the completions for fish.
func Fish(w io.Writer, k *kong.Kong) error {
	root := model(k)
	name := k.Model.Name
	var taking, programs, rules strings.Builder
	for _, c := range root.all() {
		var list []string
		for _, f := range c.flags {
			if takes(f) {
				list = append(list, spellings(f)...)
			}
		}
		if len(list) > 0 {
			fmt.Fprintf(&taking, "        case %s\n            contains -- $argv[2] %s\n", fishQuote(c.path), strings.Join(list, " "))
		}
		if at := c.program(); at >= 0 {
			fmt.Fprintf(&programs, "        case %s\n            test $argv[2] -ge %d\n", fishQuote(c.path), at)
		}
		fishRules(&rules, name, root, c)
	}
	var subs strings.Builder
	for _, c := range root.all()[1:] {
		fmt.Fprintf(&subs, " %s", fishQuote(c.path))
	}
	_, err := fmt.Fprint(w, strings.NewReplacer(
		"PROG", name, "SUBS", subs.String(),
		"        TAKING\n", taking.String(), "        PROGRAMS\n", programs.String(), "RULES\n", rules.String(),
	).Replace(fishScript))
	return err
}

func fishRules(b *strings.Builder, name string, root, c *command) {
	at := func(what string) string {
		return fmt.Sprintf("complete -c %s -n %s", name, fishQuote("__"+name+"_"+what+" "+fishQuote(c.path)))
	}
	fmt.Fprintf(b, "\n# %s\n", strings.TrimSpace(name+" "+c.path))
	for _, sub := range c.subs {
		fmt.Fprintf(b, "%s -a %s -d %s\n", at("at"), sub.Name, fishQuote(brief(sub.Help)))
	}
	for _, f := range c.flags {
		fmt.Fprint(b, at("in"))
		if f.Short != 0 {
			fmt.Fprintf(b, " -s %c", f.Short)
		}
		fmt.Fprintf(b, " -l %s", f.Name)
		if takes(f) {
			fmt.Fprint(b, " ", fishValue(name, root, f.Value))
		}
		fmt.Fprintf(b, " -d %s\n", fishQuote(brief(f.Help)))
	}
	for i, v := range c.Positional {
		action := fishValue(name, root, v)
		if action == "-x" {
			continue
		}
		where := fmt.Sprintf("__%s_at %s %d", name, fishQuote(c.path), i)
		if kind, _ := completes(v); kind == program {
			where = fmt.Sprintf("__%s_after %s", name, fishQuote(c.path))
		} else if repeats(v) {
			where += " more"
		}
		fmt.Fprintf(b, "complete -c %s -n %s %s\n", name, fishQuote(where), strings.TrimPrefix(action, "-x "))
	}
}

// fishValue are the options of complete for a value: -r, with files, or -x, with
// none.
func fishValue(name string, root *command, v *kong.Value) string {
	switch kind, list := completes(v); kind {
	case words:
		return "-x -a " + fishQuote(strings.Join(list, " "))
	case commands:
		var list []string
		for _, sub := range root.subs {
			list = append(list, sub.Name)
		}
		return "-x -a " + fishQuote(strings.Join(list, " "))
	case dirs:
		return "-x -a '(__fish_complete_directories (commandline -ct))'"
	case program:
		return "-x -a '(__" + name + "_program)'"
	case files:
		if v.Flag == nil {
			return "-F"
		}
		return "-r -F"
	}
	return "-x"
}

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

const fishScript = `# fish completion for PROG, made by "PROG completion fish"

# Whether a value follows flag $argv[2] of command $argv[1].
function __PROG_takes
    switch $argv[1]
        TAKING
        case '*'
            false
    end
end

# Whether another program's arguments may follow command $argv[1] and $argv[2] arguments.
function __PROG_runs
    switch $argv[1]
        PROGRAMS
        case '*'
            false
    end
end

# The command that stands left of the cursor, how many arguments are behind it,
# and the words of another program, a line each.
function __PROG_line
    set -l path ''
    set -l args 0
    set -l value no
    set -l dashes no
    set -l words (commandline -opc)
    for i in (seq 2 (count $words))
        set -l word $words[$i]
        if test $value = yes
            set value no
        else if test $dashes = no -a "$word" = --
            set dashes yes
        else if test $dashes = no; and string match -q -- '-*' $word
            __PROG_takes "$path" $word; and set value yes
        else if test $args = 0; and contains -- (string trim -- "$path $word")SUBS
            set path (string trim -- "$path $word")
        else if __PROG_runs "$path" $args
            printf '%s\n' $path $args $words[$i..-1]
            return
        else
            set args (math $args + 1)
        end
    end
    printf '%s\n' "$path" $args
end

# Whether flags of a command may stand here.
function __PROG_in
    set -l line (__PROG_line)
    test "$line[1]" = $argv[1] -a (count $line) = 2
end

# Whether this is an argument of a command: $argv[2] (0) before it, or more.
function __PROG_at
    set -l line (__PROG_line)
    set -l args $argv[2] 0
    test "$line[1]" = $argv[1]; or return
    test $line[2] = $args[1]; or test "$argv[3]" = more -a $line[2] -gt $args[1]
end

# Whether a command's other program, or an argument of that, may stand here.
function __PROG_after
    set -l line (__PROG_line)
    test "$line[1]" = $argv[1]; and __PROG_runs $argv[1] $line[2]
end

# What completes the program that is run, or its arguments.
function __PROG_program
    set -l line (__PROG_line)
    complete -C (string join ' ' -- (string escape -- $line[3..-1]) (commandline -ct))
end

complete -c PROG -f
RULES
`
