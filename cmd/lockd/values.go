package main

import (
	"errors"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/internal/wire"
)

// The types of arguments and flags that kong has no like of. It would put its
// default in the place of an empty value, which is most often a variable that
// was not set: `--unix "$SOCKET"`.

var errEmpty = errors.New("must not be empty")

// pop takes the next argument in its very bytes: kong would give a string with
// U+FFFD for each that is not UTF-8, which is another lock or file.
func pop(ctx *kong.DecodeContext) (string, error) {
	token, err := ctx.Scan.PopValue("argument")
	return token.String(), err
}

// verbatim may be anything.
type verbatim string

// Decode implements kong.MapperValue, as those below do.
func (v *verbatim) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	*v = verbatim(text)
	return err
}

// lockName is spelled as servers do.
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
