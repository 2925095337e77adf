package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/term"
)

// An editor is a person at a terminal: lines come from it, and lines that are
// written to it come out above the one that is being typed.
type editor interface {
	io.Writer
	// readLine returns the next line, or io.EOF for Ctrl-D.
	readLine() (string, error)
	// readSecret is the same for what must not be seen.
	readSecret(prompt string) (string, error)
	setPrompt(string)
	// interrupts has a value when Ctrl-C was typed while no line was read.
	interrupts() <-chan struct{}
	width() int
	close() // gives the terminal back as it was
}

// completer changes the line that is being typed, at a byte of it, when Tab was
// typed.
type completer func(line string, at int) (newLine string, newAt int)

func newEditor(h *history, complete completer) (editor, error) {
	if os.Getenv("TERM") == "dumb" {
		return newPlainEditor(), nil
	}
	state, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return nil, err
	}
	e := &rawEditor{keys: newKeys(), state: state}
	e.t = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{e.keys, stdout}, "")
	e.t.History = h
	e.t.AutoCompleteCallback = func(line string, at int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		line, at = complete(line, at)
		return line, at, true
	}
	interpretEscapes()
	e.resize()
	onResize(e.resize)
	onSignals(e)
	go e.keys.run(e.suspend)
	return e, nil
}

// onSignals ends the shell by the signals that end programs, but not without
// giving the terminal back.
func onSignals(e editor) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		s := <-c
		e.close()
		exit(exitSignal + int(s.(syscall.Signal)))
	}()
}

// rawEditor edits lines with cursor keys, history and Tab.
type rawEditor struct {
	t     *term.Terminal
	keys  *keys
	ended atomic.Bool // the last prompt stays as it is, with what comes below it

	mu    sync.Mutex // guards state: the terminal's mode is changed by one at a time
	state *term.State
}

func (e *rawEditor) Write(p []byte) (int, error) {
	if e.ended.Load() {
		return stdout.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")))
	}
	return e.t.Write(p)
}

func (e *rawEditor) readLine() (string, error) { return e.read(e.t.ReadLine) }

func (e *rawEditor) readSecret(prompt string) (string, error) {
	return e.read(func() (string, error) { return e.t.ReadPassword(prompt) })
}

func (e *rawEditor) read(read func() (string, error)) (string, error) {
	e.keys.editing(true)
	defer e.keys.editing(false)
	e.resize() // some systems do not tell
	line, err := read()
	if err != nil {
		e.ended.Store(true)
	}
	return line, err
}

func (e *rawEditor) setPrompt(s string)          { e.t.SetPrompt(s) }
func (e *rawEditor) interrupts() <-chan struct{} { return e.keys.interrupts }

func (e *rawEditor) width() int {
	width, _ := terminalSize(stdout.fd())
	return width
}

func (e *rawEditor) resize() {
	if width, height, err := term.GetSize(stdout.fd()); err == nil && width > 0 {
		e.t.SetSize(width, height)
	}
}

func (e *rawEditor) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	term.Restore(int(os.Stdin.Fd()), e.state)
}

// suspend gives the terminal to the shell that has started us, until that
// continues us.
func (e *rawEditor) suspend() {
	e.close()
	stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	term.MakeRaw(int(os.Stdin.Fd()))
	e.t.Write(nil) // shows the line again
}

// keys are what was typed and has not been read. Ctrl-C is none of it: it acts
// at once, also while a request waits and nothing is read.
type keys struct {
	interrupts chan struct{}

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	typed   []byte
	err     error
	edited  bool // a line is being typed
}

// maxTyped is how much may be typed ahead. Nothing more is read then.
const maxTyped = 1 << 20

func newKeys() *keys {
	k := &keys{interrupts: make(chan struct{}, 1)}
	k.changed.L = &k.mu
	return k
}

const (
	ctrlC = 0x03
	ctrlZ = 0x1a
)

// clearLine are the keys that clear the line: to its end, and all in front.
var clearLine = []byte{0x05, 0x15}

func (k *keys) run(suspend func()) {
	var b [4096]byte
	for {
		n, err := os.Stdin.Read(b[:])
		for _, c := range b[:n] {
			switch c {
			case ctrlC:
				k.interrupt()
			case ctrlZ:
				suspend()
			default:
				k.add(c)
			}
		}
		if err != nil {
			k.mu.Lock()
			k.err = err
			k.changed.Broadcast()
			k.mu.Unlock()
			return
		}
	}
}

func (k *keys) add(c byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.typed) >= maxTyped {
		k.changed.Wait()
	}
	k.typed = append(k.typed, c)
	k.changed.Broadcast()
}

// interrupt is Ctrl-C. What was typed before goes with it.
func (k *keys) interrupt() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.typed = k.typed[:0]
	if k.edited {
		k.typed = append(k.typed, clearLine...)
		k.changed.Broadcast()
		return
	}
	select {
	case k.interrupts <- struct{}{}:
	default:
	}
}

func (k *keys) editing(is bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.edited = is
}

// Read implements io.Reader.
func (k *keys) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(k.typed) == 0 {
		if k.err != nil {
			return 0, io.EOF
		}
		k.changed.Wait()
	}
	n := copy(p, k.typed)
	k.typed = k.typed[n:]
	k.changed.Broadcast()
	return n, nil
}

// plainEditor is for terminals that cannot move the cursor, as in an editor's
// window: the kernel's line editing, and no history.
type plainEditor struct {
	in     *bufio.Reader
	signal chan struct{}

	mu     sync.Mutex // guards what follows
	prompt string
	asks   bool // the prompt is shown, and a line awaited
}

func newPlainEditor() *plainEditor {
	e := &plainEditor{in: bufio.NewReader(os.Stdin), signal: make(chan struct{}, 1)}
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	go func() {
		for range c {
			e.interrupt()
		}
	}()
	return e
}

func (e *plainEditor) interrupt() {
	e.mu.Lock()
	defer e.mu.Unlock()
	io.WriteString(stdout, "\n")
	if e.asks {
		io.WriteString(stdout, e.prompt) // the kernel has dropped the line
		return
	}
	select {
	case e.signal <- struct{}{}:
	default:
	}
}

func (e *plainEditor) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asks {
		io.WriteString(stdout, "\n")
		defer io.WriteString(stdout, e.prompt)
	}
	return stdout.Write(p)
}

func (e *plainEditor) readLine() (string, error) {
	e.ask(true)
	defer e.ask(false)
	line, err := e.in.ReadString('\n')
	if err != nil && line == "" {
		return "", io.EOF
	}
	return strings.TrimSuffix(line, "\n"), nil
}

func (e *plainEditor) readSecret(prompt string) (string, error) {
	io.WriteString(stdout, prompt)
	secret, err := term.ReadPassword(int(os.Stdin.Fd()))
	io.WriteString(stdout, "\n")
	return string(secret), err
}

func (e *plainEditor) ask(is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.asks = is; is {
		io.WriteString(stdout, e.prompt)
	}
}

func (e *plainEditor) setPrompt(s string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prompt = s
}

func (e *plainEditor) interrupts() <-chan struct{} { return e.signal }
func (e *plainEditor) width() int                  { return 80 }
func (e *plainEditor) close()                      {}
