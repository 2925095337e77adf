package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inNamespace has a command be process 1 of a PID namespace. Unless mount, it
// sees the /proc of the namespace around.
func inNamespace(t *testing.T, mount bool, args ...string) *exec.Cmd {
	t.Helper()
	if mount {
		args = append([]string{"unshare", "--pid", "--fork", "--kill-child", "--mount-proc"}, args...)
		if err := exec.Command(args[0], append(args[1:5:5], "true")...).Run(); err != nil {
			t.Skip("no PID namespaces: ", err)
		}
		return exec.Command(args[0], args[1:]...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	probe := exec.Command("true")
	probe.SysProcAttr = cmd.SysProcAttr
	if err := probe.Run(); err != nil {
		t.Skip("no PID namespaces: ", err)
	}
	return cmd
}

// follow starts a command, whose output is read as that of a runner.
func follow(t *testing.T, cmd *exec.Cmd) *runner {
	t.Helper()
	r := &runner{t: t, cmd: cmd}
	cmd.Stderr = &r.err
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	if r.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return r
}

// TestRunAsProcess1: in a container lockd reaps what lost its parent, and ends
// when it is told to.
func TestRunAsProcess1(t *testing.T) {
	t.Parallel()
	d := serveForRun(t)
	run := func(name string, args ...string) []string {
		return append([]string{binary, "run", "-s", d.addr("tcp"), name}, args...)
	}
	t.Run("orphans are reaped", func(t *testing.T) {
		t.Parallel()
		r := follow(t, inNamespace(t, true, run("orphans", "--", "sh", "-c", `
			for i in 1 2 3; do (sleep 0 &); done
			while grep -sq 'State:.Z' /proc/[0-9]*/status; do sleep 0.05; done
			echo clean`)...))
		r.says("clean")
		r.ends(0)
	})
	for name, code := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130, syscall.SIGHUP: 129, syscall.SIGQUIT: 131} {
		t.Run(name.String()+" while waiting", func(t *testing.T) {
			t.Parallel()
			d := serveForRun(t)
			c := dial(t, "tcp", d.addr("tcp"))
			c.ask("g name", "1 Lock Get Success: name")
			r := follow(t, inNamespace(t, false, binary, "run", "-s", d.addr("tcp"), "name", "--", "echo", "wrong"))
			await(t, func() bool { return strings.Contains(stats(c), "command_gw: 1\n") })
			r.cmd.Process.Signal(name)
			r.ends(code)
		})
	}
	t.Run("ended by INT", func(t *testing.T) {
		t.Parallel()
		r := follow(t, inNamespace(t, false, run("interrupted", "--", "sh", "-c", "kill -INT $$")...))
		r.ends(130)
	})
}

// TestRunLeavesZombies: what has ended is not waited for, whoever should reap it.
func TestRunLeavesZombies(t *testing.T) {
	t.Parallel()
	// The orphan ends with the command, which does not reap it.
	const command = `sh -c '(sleep 1000 >/dev/null 2>&1 &) ; echo ready; exec sleep 1000'`
	for name, script := range map[string]string{
		"lockd is process 1": `exec RUN`,
		"process 1 does not": `(RUN; echo code $?) & exec sleep 1000 >/dev/null`,
	} {
		for _, mount := range []bool{true, false} {
			if !mount && name != "lockd is process 1" {
				continue // without /proc nobody can know
			}
			t.Run(fmt.Sprintf("%s, proc %v", name, mount), func(t *testing.T) {
				t.Parallel()
				d := serveForRun(t)
				run := binary + " run --kill-after 1h -s " + d.addr("tcp") + " name -- " + command
				r := follow(t, inNamespace(t, mount, "sh", "-c", strings.ReplaceAll(script, "RUN", run)))
				r.says("ready")
				d.stop(syscall.SIGKILL)
				if strings.HasPrefix(script, "exec") {
					r.ends(143)
				} else {
					r.says("code 143")
				}
			})
		}
	}
}

// TestRunOfAnotherUser: a command that cannot be ended is not passed over in
// silence.
func TestRunOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can run lockd as somebody else")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// For anybody to execute, and with root's rights.
	dir := short(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	install := func(name, from string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		program, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(path, program, 0o755)
		}
		if err == nil {
			err = os.Chmod(path, mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	lockd := install("lockd", binary, 0o755)
	root := install("root", self, 0o755|os.ModeSetuid)
	d := serveForRun(t)
	begin := func(name, script string) (*runner, *bufio.Reader) {
		cmd := exec.Command(lockd, "run", "-s", d.addr("tcp"), name, "--kill-after", "100ms", "--", "sh", "-c", script, "-", root)
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), stayAs+"=0")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		stderr, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stderr.Close() })
		stderr.SetReadDeadline(time.Now().Add(patience))
		defer w.Close()
		r := &runner{t: t, cmd: cmd}
		cmd.Stderr = w
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		r.out = bufio.NewReader(out)
		if r.in, err = cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); errors.Is(err, os.ErrPermission) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			r.in.Close()
			cmd.Process.Kill()
			cmd.Wait()
		})
		return r, bufio.NewReader(stderr)
	}
	complains := func(in *bufio.Reader, want string) {
		t.Helper()
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "lockd: ") || !strings.Contains(line, want) {
			t.Errorf("stderr says %q, %v, want %q", line, err, want)
		}
	}
	alone, complaints := begin("alone", `exec "$1"`)
	line, _ := alone.out.ReadString('\n')
	if strings.Contains(line, "not permitted") {
		t.Skip("no setuid programs in ", dir)
	}
	pid := strings.TrimSpace(line)
	// Of two, one can be ended.
	two, complaintsOfTwo := begin("two", `exec 3<&0; "$1" <&3 & wait`)
	second := two.number()

	alone.cmd.Process.Signal(syscall.SIGUSR1)
	complains(complaints, "cannot send USR1 to the command (process "+pid+"): operation not permitted")
	d.stop(syscall.SIGKILL)
	complains(complaints, `lost the lock "alone"`)
	complains(complaints, "cannot send TERM to the command (process "+pid+"): operation not permitted")
	for range 2 {
		complains(complaints, `still running without the lock "alone": process `+pid+" (KILL: operation not permitted)\n")
	}
	alone.in.Close()
	alone.ends(0)

	complains(complaintsOfTwo, `lost the lock "two"`)
	complains(complaintsOfTwo, fmt.Sprintf("still running without the lock \"two\": process %d (KILL: operation not permitted)\n", second))
	two.exits(143)
	var rest bytes.Buffer
	two.in.Close()
	if io.Copy(&rest, complaintsOfTwo); rest.Len() > 0 {
		t.Errorf("stderr also says %q", rest.String())
	}
}
