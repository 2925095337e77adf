//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"
)

// forwarded are the signals that the command gets in place of lockd.
var forwarded = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2,
	syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGWINCH,
}

// A process is the command, the leader of a process group of its own.
//
// A group that is not the terminal's foreground group is stopped as soon as it
// reads the terminal. So, as a shell would, lockd gives the command's group
// the terminal, at once when lockd is in the foreground and both its input and
// output are the terminal, and else when the command first asks for it by being
// stopped: in `lockd run a -- ls | less` the terminal must stay with less.
// (timeout --foreground leaves the command in its own group instead, and can
// then signal no group.) When the command has the terminal and is stopped, by
// Ctrl-Z, lockd takes the terminal back and stops itself, which is what the
// shell waits for, and hands both on when it is continued.
type process struct {
	pid     int
	eager   bool           // give the terminal whenever we have it
	changed chan os.Signal // tells when to poll
	suspend bool           // lockd stops, or will in a moment: until SIGCONT the command must not go on
}

func start(path string, args, env []string) (*process, error) {
	p := &process{changed: make(chan os.Signal, 1)}
	signal.Notify(p.changed, syscall.SIGCHLD)
	_, out := foreground(1)
	p.eager = out && weHaveTerminal()
	attr := &syscall.SysProcAttr{Setpgid: true, Foreground: p.eager, Ctty: 0}
	dieWithParent(attr)
	proc, err := os.StartProcess(path, args, &os.ProcAttr{
		Env:   env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   attr,
	})
	if err != nil {
		return nil, err
	}
	p.pid = proc.Pid
	proc.Release()
	return p, nil
}

// poll asks for news of the process after changed told of some. It is asked by
// the goroutine that also forwards signals: the kernel tells of a stop only as
// long as it lasts, so that none is acted upon after it was undone.
func (p *process) poll() (code int, ended bool) {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(p.pid, &status, syscall.WUNTRACED|syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return exitCannotRun, true // nobody else waits for it, so this cannot be
		case pid == 0:
			return 0, false
		case status.Stopped():
			p.stopped(status.StopSignal())
		case status.Signaled():
			return exitSignal + int(status.Signal()), true
		case status.Exited():
			return status.ExitStatus(), true
		}
	}
}

func (p *process) stopped(s syscall.Signal) {
	group, ok := foreground(0)
	if !ok || p.suspend {
		return // without a terminal, whoever stopped it knows why
	}
	switch s {
	case syscall.SIGTTIN, syscall.SIGTTOU:
		if group == syscall.Getpgrp() {
			p.eager = true
			setForeground(p.pid)
			group = p.pid
		}
		if group == p.pid {
			p.signal(syscall.SIGCONT)
			return
		}
	default:
		if group != p.pid {
			return // it came through us, see forward, or is none of ours
		}
		p.restore()
	}
	p.suspend = true
	syscall.Kill(0, syscall.SIGSTOP)
}

// resume continues the command after lockd was, which SIGCONT tells. What
// stands behind a kill that stops lockd may run before it stops.
func (p *process) resume() {
	p.suspend = false
	if p.eager && weHaveTerminal() {
		setForeground(p.pid)
	}
	p.signal(syscall.SIGCONT)
}

// forward passes a signal on.
func (p *process) forward(s os.Signal) {
	switch s {
	case syscall.SIGCONT:
		p.resume()
	case syscall.SIGTSTP:
		p.suspend = true
		p.signal(syscall.SIGTSTP)
		syscall.Kill(syscall.Getpid(), syscall.SIGSTOP)
	default:
		p.signal(s.(syscall.Signal))
	}
}

// signal signals the group.
func (p *process) signal(s syscall.Signal) { syscall.Kill(-p.pid, s) }

func (p *process) terminate() {
	p.signal(syscall.SIGTERM)
	p.signal(syscall.SIGCONT) // a stopped process does not see the other
}

func (p *process) kill() { p.signal(syscall.SIGKILL) }

// endGroup waits until nothing of the group is left, which has got its TERM,
// and kills what is left when the channel says so. A nil one has already.
func (p *process) endGroup(kill <-chan time.Time) {
	for kill != nil && syscall.Kill(-p.pid, 0) == nil {
		select {
		case <-kill:
			p.kill()
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// restore takes the terminal back from the command.
func (p *process) restore() {
	if group, ok := foreground(0); ok && group == p.pid {
		// From the background that asks for SIGTTOU.
		signal.Ignore(syscall.SIGTTOU)
		setForeground(syscall.Getpgrp())
		signal.Reset(syscall.SIGTTOU)
	}
}

// foreground returns the foreground process group of our terminal, if that is
// what a file is.
func foreground(fd uintptr) (group int, ok bool) {
	var g int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&g)))
	return int(g), errno == 0
}

// weHaveTerminal tells whether our input is our terminal and ours to give.
func weHaveTerminal() bool {
	group, ok := foreground(0)
	return ok && group == syscall.Getpgrp()
}

func setForeground(group int) {
	g := int32(group)
	syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&g)))
}
