//go:build !(mips || mipsle || mips64 || mips64le)

package command

import (
	"encoding/binary"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
)

// A stage is this program once more, which only ignores and blocks what the
// caller does and then becomes the command.
type stage struct {
	path   string
	errors *os.File // four bytes if the command cannot be executed
	write  *os.File
}

// stageName is the first argument of one.
const stageName = "lockd run: starting the command"

// between returns a stage and turns a Spec into one for it, if the command does
// not inherit all that it has to.
func between(caller *Caller, s *Spec) *stage {
	var set mask
	inherits := true
	for sig, ignored := range caller.ignored {
		if ignored {
			set |= 1 << (sig - 1)
			var a action
			inherits = inherits && a.get(sig) && a.handler() == ignore
		}
	}
	if inherits {
		return nil
	}
	const self = "/proc/self/exe"
	if _, err := os.Stat(self); err != nil {
		return nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil
	}
	// With the number that it has: others are the command's.
	fd := w.Fd()
	syscall.RawSyscall(syscall.SYS_FCNTL, fd, syscall.F_SETFD, 0)
	st := &stage{s.Path, r, w}
	s.Args = append([]string{stageName, hex(set), hex(caller.blocked), strconv.Itoa(int(fd)), s.Path}, s.Args...)
	s.Path = self
	return st
}

// result tells, once the stage has started, whether the command has.
func (st *stage) result() error {
	if st == nil {
		return nil
	}
	st.write.Close()
	defer st.errors.Close()
	var errno [4]byte
	if _, err := io.ReadFull(st.errors, errno[:]); err != nil {
		return nil // closed: it has
	}
	return &fs.PathError{Op: "exec", Path: st.path, Err: syscall.Errno(binary.NativeEndian.Uint32(errno[:]))}
}

func hex(m mask) string { return strconv.FormatUint(uint64(m), 16) }

// init is all of a stage's life. It begins when most of the program is not there
// yet, on the main thread, whose mask the command inherits.
func init() {
	if len(os.Args) < 6 || os.Args[0] != stageName {
		return
	}
	ignored, err1 := strconv.ParseUint(os.Args[1], 16, 64)
	blocked, err2 := strconv.ParseUint(os.Args[2], 16, 64)
	fd, err3 := strconv.Atoi(os.Args[3])
	if err1 != nil || err2 != nil || err3 != nil {
		os.Exit(exitUnknown)
	}
	syscall.CloseOnExec(fd)
	for s := syscall.Signal(1); s <= signals; s++ {
		if ignored>>(s-1)&1 != 0 {
			a := action{ignore}
			a.set(s)
		}
	}
	m := mask(blocked)
	setMask(&m)
	err := syscall.Exec(os.Args[4], os.Args[5:], os.Environ())
	errno, _ := err.(syscall.Errno)
	syscall.Write(fd, binary.NativeEndian.AppendUint32(nil, uint32(errno)))
	os.Exit(exitUnknown)
}
