package wire_test

import (
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/wire"
)

// FoldName spells names as Parse does.
func TestFoldName(t *testing.T) {
	for _, name := range []string{
		"", " ", "a", "a b", " a", "a ", "a  b", "\ta\v\vb\f", "a \t b", "caf\u00e9\u00a0x", "\xff \xfe", "\u2003a",
	} {
		got, ok := wire.FoldName(name)
		_, want := wire.Parse([]byte("g " + name))
		if !ok || got != string(want) {
			t.Errorf("%q: got %q, %v, want %q", name, got, ok, want)
		}
	}
	for _, name := range []string{"\n", "a\nb", "a\r", "\rb"} {
		if got, ok := wire.FoldName(name); ok {
			t.Errorf("%q: got %q", name, got)
		}
	}
	long := strings.Repeat("a b ", 100) + "c"
	if n := testing.AllocsPerRun(100, func() { wire.FoldName(long) }); n > 0 {
		t.Errorf("%v allocations for a name that is in order", n)
	}
}
