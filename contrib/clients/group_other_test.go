//go:build !unix

package clients_test

import "os/exec"

func asGroup(cmd *exec.Cmd) (end func()) { return func() { cmd.Process.Kill() } }
