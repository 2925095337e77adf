package server

import (
	"slices"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/wire"
)

// MaxWatchNames is how many names can have metrics of their own: each has nine series.
const MaxWatchNames = 100

// checkWatchNames tells what is wrong with the names that shall have metrics.
func (o *Options) checkWatchNames() error {
	if n := len(o.WatchNames); n > MaxWatchNames {
		return optionError("watch-names", "at most %d names can have metrics of their own, not %d: each adds nine series to every page", MaxWatchNames, n)
	}
	for i, name := range o.WatchNames {
		folded, ok := wire.FoldName(name)
		switch {
		case name == "":
			return optionError("watch-names", "a name must not be empty: to Prometheus an empty label is none")
		case !utf8.ValidString(name):
			return optionError("watch-names", "%q is not in UTF-8, as labels have to be", name)
		case !ok || folded != name:
			return optionError("watch-names", "no request can name %q: names have no line breaks, no blanks at the ends, and single spaces inside", name)
		case len(name) > o.MaxLine-2:
			return optionError("watch-names", "no request can name %.20q...: it is longer than max-line allows", name)
		case slices.Contains(o.WatchNames[:i], name):
			return optionError("watch-names", "%q stands there twice", name)
		}
	}
	o.WatchNames = slices.Clone(o.WatchNames)
	return nil
}
