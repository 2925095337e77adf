package main_test

import (
	"bufio"
	"fmt"
	"io"
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
	// tty is the program's end. As long as it is open, there is no moment without
	// anybody at that end, in which reading the other one fails, and what was
	// written last is not gone with the program that wrote it.
	tty *os.File
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
		if err := ioctl(m, request, unsafe.Pointer(arg)); err != nil {
			t.Skip(err)
		}
	}
	s, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	term := &terminal{t, m, bufio.NewReader(m), exec.Command(args[0], args[1:]...), s}
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = s, s, s
	term.cmd.Env = append(os.Environ(), env...)
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		m.Close()
		s.Close()
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { m.Close(); term.cmd.Process.Kill() })
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
	if err := ioctl(term.File, syscall.TCGETS, unsafe.Pointer(&modes)); err != nil {
		term.t.Fatal(err)
	}
	return modes.Lflag&syscall.ECHO != 0
}

// foreground returns the process group that has the terminal.
func (term *terminal) foreground() int {
	term.t.Helper()
	var group int32
	if err := ioctl(term.File, syscall.TIOCGPGRP, unsafe.Pointer(&group)); err != nil {
		term.t.Fatal(err)
	}
	return int(group)
}

// ends waits for the program's end and returns what is shown up to it.
func (term *terminal) ends() string {
	term.t.Helper()
	term.cmd.Wait()
	const mark = "(the end)"
	io.WriteString(term.tty, mark)
	return strings.TrimSuffix(term.until(mark), mark)
}

// ioctl does without Fd, after which Close would not end a Read.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	err = conn.Control(func(fd uintptr) { _, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(arg)) })
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}

// exits expects the end of a command, and its exit code.
func exits(t *testing.T, cmd *exec.Cmd, code int) {
	t.Helper()
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v, want exit code %d", cmd.ProcessState, code)
	}
}
