package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/term"
)

// output is where the program prints. It keeps its first error, and tells
// nobody before the end: so no command has to ask after each line, none can
// forget to, and none takes a full disk for an answer.
type output struct {
	to   io.WriteCloser
	used bool
	err  error
}

// All that is printed goes through these, and all ways out through exit.
var (
	stdout = &output{to: os.Stdout}
	stderr = &output{to: os.Stderr} // what is not said in the line of fail
)

// Write implements io.Writer. It never fails.
func (o *output) Write(p []byte) (int, error) {
	if o.err == nil {
		_, err := o.to.Write(p)
		o.keep(err)
	}
	return len(p), nil
}

// fd is for those who ask the system about the file.
func (o *output) fd() int { return int(o.to.(*os.File).Fd()) }

// keep notes what came of printing.
func (o *output) keep(err error) {
	o.used = true
	o.err = cmp.Or(o.err, err)
}

// end returns the first error. Some file systems tell of a full disk only when
// the file is closed; if nothing was printed, that is not our matter.
func (o *output) end() error {
	if o.used {
		o.keep(o.to.Close())
	}
	return o.err
}

// exit ends the process. That something could not be printed comes before all
// else: a code that says what the answer was would be believed. (A broken pipe
// is not among it: Go has ended the process by SIGPIPE.)
func exit(code int) {
	if err := cmp.Or(stdout.end(), stderr.err); err != nil {
		code = exitOutput
		if e := new(fs.PathError); errors.As(err, &e) {
			err = e.Err
		}
		fmt.Fprintln(os.Stderr, "lockd: cannot write the output:", err)
	}
	os.Exit(code)
}

// fail prints one line and exits.
func fail(code int, text string) {
	fmt.Fprintln(os.Stderr, "lockd:", text)
	exit(code)
}

// isTerminal tells whether there is a person at a file.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
