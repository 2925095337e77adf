package clidoc

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// Zsh writes the completions for zsh: a function for each command, on _arguments
// of zsh's own. The text may be a file of $fpath, or be sourced.
func Zsh(w io.Writer, k *kong.Kong) error {
	root := model(k)
	var b strings.Builder
	fmt.Fprintf(&b, "#compdef %s\n# zsh completion for %[1]s, made by \"%[1]s completion zsh\"\n", k.Model.Name)
	for _, c := range root.all() {
		zshFunction(&b, root, c)
	}
	fmt.Fprintf(&b, `
if [[ $funcstack[1] == _%s ]]; then
	_%[1]s "$@"
else
	compdef _%[1]s %[1]s
fi
`, k.Model.Name)
	_, err := io.WriteString(w, b.String())
	return err
}

func zshFunction(b *strings.Builder, root, c *command) {
	fmt.Fprintf(b, "\n%s() {\n", zshName(root, c))
	if len(c.subs) > 0 {
		zshCommands(b, c.subs)
	}
	if len(c.Positional) > 0 {
		for _, v := range c.Positional {
			if kind, _ := completes(v); kind == commands {
				zshCommands(b, root.subs)
			}
		}
	}
	fmt.Fprintf(b, "\tlocal curcontext=$curcontext context state state_descr line ret=1\n\ttypeset -A opt_args\n\tlocal -a flags=(\n")
	for _, f := range c.flags {
		names := spellings(f)
		rest := "[" + zshEscape(brief(f.Help), `\[]`) + "]"
		if takes(f) {
			for i, name := range names {
				names[i] = name + map[bool]string{true: "=", false: "+"}[strings.HasPrefix(name, "--")]
			}
			rest += ":" + zshEscape(holder(f.Value), `\:`) + ":" + zshAction(f.Value)
		}
		exclude := "(" + strings.Join(spellings(f), " ") + ")"
		if repeats(f.Value) {
			exclude = "*"
		} else if f == c.flags[0] { // help
			exclude = "(- *)"
		}
		for _, name := range names {
			fmt.Fprintf(b, "\t\t%s\n", zshQuote(exclude+name+rest))
		}
	}
	fmt.Fprintf(b, "\t)\n\t_arguments -s -S -C : $flags")
	switch {
	case len(c.subs) > 0:
		fmt.Fprintf(b, " \\\n\t\t'1: :->command' \\\n\t\t'*:: :->arguments'")
	default:
		for i, v := range c.Positional {
			place := fmt.Sprint(i + 1)
			if !v.Required {
				place += ":"
			}
			if repeats(v) {
				place = "*"
			}
			if kind, _ := completes(v); kind == program {
				fmt.Fprintf(b, " \\\n\t\t'*:::%s:->program'", zshEscape(v.Name, `\:`))
				continue
			}
			fmt.Fprintf(b, " \\\n\t\t%s", zshQuote(place+":"+zshEscape(holder(v), `\:`)+":"+zshAction(v)))
		}
	}
	fmt.Fprintf(b, " && ret=0\n")
	if len(c.subs) > 0 {
		fmt.Fprintf(b, `	case $state in
	command)
		_describe -t commands command subcommands && ret=0
		;;
	arguments)
		curcontext=${curcontext%%:*:*}:%s-$words[1]:
		case $words[1] in
`, root.Name)
		for _, sub := range c.subs {
			fmt.Fprintf(b, "\t\t%s) %s && ret=0 ;;\n", sub.Name, zshName(root, sub))
		}
		fmt.Fprintf(b, "\t\tesac\n\t\t;;\n\tesac\n")
	}
	if c.program() >= 0 {
		fmt.Fprint(b, `	if [[ $state == program ]]; then
		if (( CURRENT > 1 )); then
			_normal && ret=0
		elif [[ $words[1] == -* ]]; then
			words=(command $words) CURRENT=2
			_arguments -s : $flags && ret=0
		else
			_command_names -e && ret=0
		fi
	fi
`)
	}
	fmt.Fprintf(b, "\treturn ret\n}\n")
}

func zshCommands(b *strings.Builder, subs []*command) {
	fmt.Fprintf(b, "\tlocal -a subcommands=(\n")
	for _, sub := range subs {
		fmt.Fprintf(b, "\t\t%s\n", zshQuote(zshEscape(sub.Name, `\:`)+":"+zshEscape(brief(sub.Help), `\`)))
	}
	fmt.Fprintf(b, "\t)\n")
}

func zshAction(v *kong.Value) string {
	switch kind, list := completes(v); kind {
	case words:
		return "(" + strings.Join(list, " ") + ")"
	case files:
		return "_files"
	case dirs:
		return "_files -/"
	case commands:
		return "{_describe -t commands command subcommands}"
	}
	return "()" // nothing; for a message alone zsh would not go on with a flag
}

func zshName(root, c *command) string {
	return strings.TrimSuffix("_"+root.Name+"_"+strings.NewReplacer(" ", "_", "-", "_").Replace(c.path), "_")
}

// zshEscape puts a backslash before some characters.
func zshEscape(s, special string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune(special, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func zshQuote(s string) string { return bashQuote(s) }
