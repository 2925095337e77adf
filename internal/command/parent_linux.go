package command

import "syscall"

// dieWithParent has the kernel kill the command when lockd dies.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
