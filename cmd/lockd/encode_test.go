package main

import (
	"encoding/json"
	"testing"
)

// TestEncode: JSON has nothing in it that a terminal obeys or hides, and means
// the same.
func TestEncode(t *testing.T) {
	for name, want := range map[string]string{
		"<b>&\" \u00e9\u4e2d":  "\"<b>&\\\" \u00e9\u4e2d\"",
		"\x1b[2J\t":            `"\u001b[2J\t"`,
		"\u009b2J\x7f":         `"\u009b2J\u007f"`,
		"a\u202eb\u200d\ufeff": `"a\u202eb\u200d\ufeff"`,
		"\U000e0041":           `"\udb40\udc41"`,
		"\u2028":               `"\u2028"`,
	} {
		got, err := encode(name)
		var back string
		if err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", name, got, err, want)
		} else if err := json.Unmarshal([]byte(got), &back); err != nil || back != name {
			t.Errorf("%q: it means %q, %v", name, back, err)
		}
	}
}
