package conn

import "syscall"

var passingHere = []syscall.Errno{syscall.ENONET}
