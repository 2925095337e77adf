// Package clidoc tells of a command line, as kong's model has it, to those who do
// not ask by --help: completions for bash, zsh and fish, and manual pages.
//
// All of it is made of the model, so a command or a flag is in it once it is
// there. What completes a value is its enum, the alternatives of its
// placeholder (text|json), files where the placeholder is FILE or PATH, or what
// the tag `complete` says: dirs, program (a program and then its own arguments,
// for an argument that is passed through) or commands (of this command line).
// It knows nothing of lockd.
package clidoc

import (
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// A command is one node of the model. The root is one, too: it has the flags of
// the command that is meant when none is named.
type command struct {
	*kong.Node
	path  string // of words, without the program's name
	flags []*kong.Flag
	subs  []*command
}

// model returns the root.
func model(k *kong.Kong) *command {
	return newCommand(k.Model.Node, k.Model.HelpFlag, "")
}

func newCommand(n *kong.Node, help *kong.Flag, path string) *command {
	c := &command{Node: n, path: path, flags: []*kong.Flag{help}}
	c.own(n)
	if n.DefaultCmd != nil {
		c.own(n.DefaultCmd)
	}
	for _, child := range n.Children {
		if !child.Hidden {
			c.subs = append(c.subs, newCommand(child, help, strings.TrimSpace(path+" "+child.Name)))
		}
	}
	return c
}

// own takes a node's flags, but for help, which it has.
func (c *command) own(n *kong.Node) {
	for _, f := range n.Flags {
		if !f.Hidden && f.Name != c.flags[0].Name {
			c.flags = append(c.flags, f)
		}
	}
}

// all returns a command and those below it.
func (c *command) all() []*command {
	list := []*command{c}
	for _, sub := range c.subs {
		list = append(list, sub.all()...)
	}
	return list
}

// program returns the place of the argument from which on another program's
// arguments follow, or -1.
func (c *command) program() int {
	return slices.IndexFunc(c.Positional, func(v *kong.Positional) bool { return v.Tag.Get("complete") == "program" })
}

// spellings returns what a flag is called on the command line.
func spellings(f *kong.Flag) []string {
	if f.Short != 0 {
		return []string{"-" + string(f.Short), "--" + f.Name}
	}
	return []string{"--" + f.Name}
}

// takes tells whether a value follows a flag.
func takes(f *kong.Flag) bool { return !f.IsBool() && !f.IsCounter() }

// repeats tells whether a flag or an argument may be there several times.
func repeats(v *kong.Value) bool { return v.Target.Kind() == reflect.Slice }

// A kind is what completes a value.
type kind int

const (
	anything kind = iota
	words
	files
	dirs
	commands
	program
)

// completes returns what completes a value, and the words if that is words.
func completes(v *kong.Value) (kind, []string) {
	switch v.Tag.Get("complete") {
	case "dirs":
		return dirs, nil
	case "commands":
		return commands, nil
	case "program":
		return program, nil
	}
	if v.Enum != "" {
		return words, v.EnumSlice()
	}
	holder := v.Tag.PlaceHolder
	if holder == "FILE" || holder == "PATH" {
		return files, nil
	}
	if alternatives := strings.Split(holder, "|"); len(alternatives) > 1 {
		plain := func(s string) bool { return s != strings.ToLower(s) || s == "" }
		alternatives = slices.DeleteFunc(alternatives, plain) // SIZE|off: off
		return words, alternatives
	}
	return anything, nil
}

// holder is what stands for a value.
func holder(v *kong.Value) string {
	switch {
	case v.Flag != nil && v.Tag.PlaceHolder == "" && v.Default != "":
		return strings.ToUpper(v.Name) // kong would show the default
	case v.Flag != nil:
		return v.Flag.FormatPlaceHolder()
	}
	return v.Name
}

// brief is the first sentence of a help text, without its full stop.
func brief(help string) string {
	help = strings.Join(strings.Fields(help), " ")
	for i := 0; i < len(help); i++ {
		if (help[i] == '.' || help[i] == ';') && (i+1 == len(help) || help[i+1] == ' ') {
			help = help[:i]
			break
		}
	}
	return help
}
