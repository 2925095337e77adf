package main

import (
	"errors"
	"testing"

	"github.com/nylen/lockd/internal/load"
)

// brittle fails to write and to close, if it shall.
type brittle struct {
	write, close   error
	writes, closes int
}

func (b *brittle) Write(p []byte) (int, error) { b.writes++; return len(p), b.write }
func (b *brittle) Close() error                { b.closes++; return b.close }

func TestOutputKeepsItsFirstError(t *testing.T) {
	first, second := errors.New("first"), errors.New("second")
	for _, test := range []struct {
		what        string
		write       error
		close       error
		want        error
		writes, end int
	}{
		{"all well", nil, nil, nil, 2, 1},
		{"a write fails", first, second, first, 1, 1},
		{"closing fails", nil, second, second, 2, 1},
	} {
		b := &brittle{write: test.write, close: test.close}
		o := &output{to: b}
		for range 2 {
			if n, err := o.Write([]byte("x")); n != 1 || err != nil {
				t.Errorf("%s: wrote %d, %v", test.what, n, err)
			}
		}
		if err := o.end(); err != test.want || b.writes != test.writes || b.closes != test.end {
			t.Errorf("%s: %v after %d writes and %d closes", test.what, err, b.writes, b.closes)
		}
	}
	b := &brittle{close: second}
	if err := (&output{to: b}).end(); err != nil || b.closes != 0 {
		t.Errorf("nothing printed: %v, closed %d times", err, b.closes)
	}
}

func TestProgressThatCannotBePrinted(t *testing.T) {
	for _, terminal := range []bool{true, false} {
		full := errors.New("full")
		o := &output{to: &brittle{write: full}}
		l := progress{line: statusLine{to: o}, terminal: terminal}
		for range plainEvery {
			l.show(load.Progress{})
		}
		l.line.clear()
		if o.err != full {
			t.Errorf("terminal %v: %v", terminal, o.err)
		}
	}
}
