package session

import "strings"

// A Verb is a row of the table of verbs, for those who explain it to people.
type Verb struct {
	Word  string
	Args  []Arg  // the numbers before the rest
	Rest  string // what follows: `NAME`, or `[NAME]` if that may be missing; empty: nothing
	Help  string // a line without a period
	Roles string // who may

	Old      bool // every server that speaks protocol 1 knows it
	Lists    bool // its reply has any number of lines
	Silent   bool // and in protocol 1 it may have none at all
	Sessions bool // there is no such verb in protocol 1
	Nodes    bool // only nodes of a cluster use it, among themselves
}

// An Arg is a number in a request.
type Arg struct {
	Word        string
	Least, Most uint64
	Within      string // if not empty, it is at most this other one
}

// Usage is the verb and what follows it: `gw MS NAME`.
func (v Verb) Usage() string {
	words := []string{v.Word}
	for _, a := range v.Args {
		words = append(words, a.Word)
	}
	if v.Rest != "" {
		words = append(words, v.Rest)
	}
	return strings.Join(words, " ")
}

// Verbs returns the table of verbs.
func Verbs() (all []Verb) {
	for i := range commands {
		c := &commands[i]
		v := Verb{
			Word: c.verb, Rest: c.rest, Help: c.help, Roles: c.roles.who(),
			Old: c.flags&alwaysListed != 0, Lists: c.flags&lists != 0,
			Silent: c.flags&maybeNothing != 0, Sessions: c.flags&onlySessions != 0, Nodes: c.roles == RoleNode,
		}
		for _, a := range c.args {
			arg := Arg{Word: a.word, Least: a.least, Most: a.most}
			if a.within > 0 {
				arg.Within = c.args[a.within-1].word
			}
			v.Args = append(v.Args, arg)
		}
		all = append(all, v)
	}
	return all
}

// who names those who have one of the roles.
func (r Role) who() string {
	if r == anybody {
		return "anybody"
	}
	var names []string
	for _, one := range []Role{RoleLock, RoleRead, RoleAdmin} {
		if (r|RoleAdmin)&one != 0 {
			names = append(names, one.String())
		}
	}
	return strings.Join(names, ", ")
}
