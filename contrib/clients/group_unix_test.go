//go:build unix

package clients_test

import (
	"os/exec"
	"syscall"
)

// asGroup has a command be started in a process group, which end kills: what a
// shell has started goes with it.
func asGroup(cmd *exec.Cmd) (end func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
