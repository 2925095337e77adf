package main_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// terminal is the other end of a pseudo terminal on which a program runs.
type terminal struct {
	t *testing.T
	*os.File
	out *bufio.Reader
	cmd *exec.Cmd
}

// openTerminal runs a program on one that cannot move its cursor.
func openTerminal(t *testing.T, args ...string) *terminal {
	t.Helper()
	return openTerminalWith(t, []string{"TERM=dumb", "PS1=prompt> ", "INPUTRC=/dev/null"}, args...)
}

func openTerminalWith(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	var n, zero uint32
	for request, arg := range map[uintptr]*uint32{syscall.TIOCSPTLCK: &zero, syscall.TIOCGPTN: &n} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, m.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Skip(errno)
		}
	}
	s, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	// It stays open until the end: else what was written last may be gone with
	// the program that wrote it.
	term := &terminal{t, m, bufio.NewReader(m), exec.Command(args[0], args[1:]...)}
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = s, s, s
	term.cmd.Env = append(os.Environ(), env...)
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { term.cmd.Process.Kill(); s.Close() })
	t.Cleanup(func() {
		timer.Stop()
		s.Close()
		m.Close()
		term.cmd.Process.Kill()
		term.cmd.Wait()
	})
	return term
}

// shows reads until a line contains a text.
func (term *terminal) shows(want string) {
	term.t.Helper()
	term.until(want)
}

// until returns what is shown up to a text.
func (term *terminal) until(want string) string {
	term.t.Helper()
	var all strings.Builder
	for {
		b, err := term.out.ReadByte()
		if err != nil {
			term.t.Fatalf("the terminal shows %q, %v, want %q", all.String(), err, want)
		}
		all.WriteByte(b)
		if strings.HasSuffix(all.String(), want) {
			return all.String()
		}
	}
}

// echoes tells whether what is typed is shown by the kernel.
func (term *terminal) echoes() bool {
	term.t.Helper()
	var modes syscall.Termios
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, term.Fd(), syscall.TCGETS, uintptr(unsafe.Pointer(&modes))); errno != 0 {
		term.t.Fatal(errno)
	}
	return modes.Lflag&syscall.ECHO != 0
}
