package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/internal/wire"
)

// The types of arguments and flags that kong has no like of. It would put its
// default in the place of an empty value, which is most often a variable that
// was not set: `--unix "$SOCKET"`.

var errEmpty = errors.New("must not be empty")

// pop takes the next argument in its very bytes: kong would give a string with
// U+FFFD for each that is not UTF-8, which is another lock or file. A number
// below 0 is a value, too, so that it is said what is wrong with it.
func pop(ctx *kong.DecodeContext) (string, error) {
	token := ctx.Scan.Peek()
	if !token.IsValue() && !negative.MatchString(token.String()) {
		return "", fmt.Errorf("lacks its value: %s", ctx.Value.Summary())
	}
	return ctx.Scan.Pop().String(), nil
}

var negative = regexp.MustCompile(`^-[0-9.]`)

// verbatim may be anything.
type verbatim string

// Decode implements kong.MapperValue, as those below do.
func (v *verbatim) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	*v = verbatim(text)
	return err
}

// lockName is spelled as servers do. Nearly always an empty one is a variable
// that was not set, and all scripts with that mistake would share a lock. So
// it has to be asked for twice: a command with a lockName embeds emptyName.
type lockName string

func (n *lockName) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	name, ok := wire.FoldName(text)
	if !ok {
		return errors.New("a name cannot contain a line break")
	}
	*n = lockName(name)
	return nil
}

// Validate is called by kong.
func (n lockName) Validate(ctx *kong.Context) error {
	if n != "" {
		return nil
	}
	for _, flag := range ctx.Flags() {
		if flag.Name == "empty-name" && ctx.FlagValue(flag) == any(true) {
			return nil
		}
	}
	return errEmptyName
}

var errEmptyName = errors.New(`is empty, as a variable that is not set would be; for the lock with the empty name, write --empty-name ""`)

// emptyName is the flag of all commands with a lockName.
type emptyName struct {
	EmptyName bool `env:"-" help:"Let the name be empty, which is a lock like any other."`
}

// filled is not empty.
type filled string

func (f *filled) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err == nil && text == "" {
		err = errEmpty
	}
	*f = filled(text)
	return err
}

// paths are file names, one a flag: there may be commas in them.
type paths []string

func (p *paths) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err == nil && text == "" {
		err = errEmpty
	}
	*p = append(*p, text)
	return err
}

// list is words with commas, and maybe blanks, between.
type list []string

func (l *list) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	for word := range strings.SplitSeq(text, ",") {
		word = strings.TrimSpace(word)
		if word == "" {
			return errEmpty
		}
		*l = append(*l, word)
	}
	return nil
}

// lockNames are names, one a flag: there may be commas in them, too.
type lockNames []string

func (l *lockNames) Decode(ctx *kong.DecodeContext) error {
	var n lockName
	if err := n.Decode(ctx); err != nil {
		return err
	}
	if n == "" {
		return errEmpty
	}
	*l = append(*l, string(n))
	return nil
}
