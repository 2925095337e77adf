package conn

import "syscall"

var passingHere = []syscall.Errno{syscall.ENONET, syscall.ENOSR, syscall.ESOCKTNOSUPPORT, syscall.EPROTONOSUPPORT}
