package clidoc

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// Bash writes the completions for bash. They need no library; where the package
// bash-completion is there, it completes the arguments of other programs.
func Bash(w io.Writer, k *kong.Kong) error {
	root := model(k)
	name := k.Model.Name
	var nodes, values strings.Builder
	for _, c := range root.all() {
		var subs, flags, taking []string
		for _, sub := range c.subs {
			subs = append(subs, sub.Name)
		}
		for _, f := range c.flags {
			flags = append(flags, "--"+f.Name)
			if takes(f) {
				taking = append(taking, spellings(f)...)
			}
		}
		fmt.Fprintf(&nodes, "\t%s)\n", bashQuote(c.path))
		if len(subs) > 0 {
			fmt.Fprintf(&nodes, "\t\tsubs='%s'\n", strings.Join(subs, " "))
		}
		fmt.Fprintf(&nodes, "\t\tflags='%s'\n", strings.Join(flags, " "))
		if len(taking) > 0 {
			fmt.Fprintf(&nodes, "\t\ttakes=' %s '\n", strings.Join(taking, " "))
		}
		if at := c.program(); at >= 0 {
			fmt.Fprintf(&nodes, "\t\tprogram=%d\n", at)
		}
		fmt.Fprintf(&nodes, "\t\t;;\n")
		for _, f := range c.flags {
			if takes(f) {
				bashValue(&values, root, c, f.Value, spellings(f))
			}
		}
		for i, v := range c.Positional {
			place := fmt.Sprint(i)
			if repeats(v) {
				place = "*"
			}
			bashValue(&values, root, c, v, []string{place})
		}
	}
	_, err := fmt.Fprint(w, strings.ReplaceAll(strings.NewReplacer("\tNODES\n", nodes.String(), "\tVALUES\n", values.String()).Replace(bashScript), "PROG", name))
	return err
}

// bashValue writes the case of a value: of a flag, or of an argument by its place.
func bashValue(b *strings.Builder, root, c *command, v *kong.Value, keys []string) {
	action := ""
	switch kind, list := completes(v); kind {
	case words:
		action = fmt.Sprintf(`__PROG_words '%s'`, strings.Join(list, " "))
	case commands:
		var list []string
		for _, sub := range root.subs {
			list = append(list, sub.Name)
		}
		action = fmt.Sprintf(`__PROG_words '%s'`, strings.Join(list, " "))
	case files:
		action = "compopt -o default"
	case dirs:
		action = "compopt -o dirnames"
	default:
		return
	}
	for i, key := range keys {
		if key == "*" {
			keys[i] = bashQuote(c.path+":") + "*"
			continue
		}
		keys[i] = bashQuote(c.path + ":" + key)
	}
	fmt.Fprintf(b, "\t%s) %s ;;\n", strings.Join(keys, " | "), action)
}

func bashQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

const bashScript = `# bash completion for PROG, made by "PROG completion bash"

# __PROG_node sets what may follow a command.
__PROG_node() {
	subs= flags= takes= program=-1
	case $1 in
	NODES
	esac
}

__PROG_words() {
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
}

# __PROG_value completes the value of a flag, or the argument in a place.
__PROG_value() {
	case $1:$2 in
	VALUES
	esac
}

# __PROG_program completes another program's arguments, whose name is word $1 of
# the line.
__PROG_program() {
	local offset
	for offset in _comp_command_offset _command_offset; do
		if declare -F $offset >/dev/null; then
			$offset "$1"
			return
		fi
	done
	compopt -o default
	if [[ $COMP_CWORD == "$1" ]]; then
		COMPREPLY=($(compgen -c -- "$cur"))
	fi
}

_PROG() {
	local subs flags takes program
	local cur path= place=0 dashes= i word rest=$COMP_LINE
	local words=() index=()
	COMPREPLY=()
	# Bash cuts words at = and :, too. Where there is no blank they are one.
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $i == 0 || $rest == [[:blank:]]* ]]; then
			words+=("$word") index+=($i)
		else
			words[${#words[@]}-1]+=$word
		fi
		rest=${rest#"${rest%%[![:blank:]]*}"}
		rest=${rest#"$word"}
	done
	local last=$((${#words[@]} - 1)) flag=
	cur=${words[last]}
	__PROG_node ""
	for ((i = 1; i < last; i++)); do
		word=${words[i]}
		if [[ -z $dashes && $word == -- ]]; then
			dashes=1
		elif [[ -z $dashes && $word == -* ]]; then
			if [[ $takes == *" $word "* ]]; then
				((++i))
				[[ $i == "$last" ]] && flag=$word
			fi
		elif [[ " $subs " == *" $word "* ]]; then
			path=${path:+$path }$word
			__PROG_node "$path"
		elif [[ $place == "$program" ]]; then
			__PROG_program "${index[i]}"
			return
		else
			((++place))
		fi
	done
	if [[ -n $flag ]]; then
		__PROG_value "$path" "$flag"
	elif [[ -z $dashes && $cur == --*=* ]]; then
		flag=${cur%%=*} cur=${cur#*=}
		__PROG_value "$path" "$flag"
	elif [[ -z $dashes && $cur == -* ]]; then
		__PROG_words "$flags"
	elif [[ -n $subs ]]; then
		__PROG_words "$subs"
	elif [[ $place == "$program" ]]; then
		__PROG_program "${index[last]}"
	else
		__PROG_value "$path" "$place"
	fi
}

complete -F _PROG PROG
`
