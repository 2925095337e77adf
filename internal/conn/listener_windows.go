package conn

import "syscall"

// passingHere are Winsock's own numbers: the syscall package's E names are
// made up there.
var passingHere = []syscall.Errno{
	10024, // WSAEMFILE
	10050, // WSAENETDOWN
	syscall.WSAECONNABORTED,
	syscall.WSAECONNRESET,
	10055, // WSAENOBUFS
}
