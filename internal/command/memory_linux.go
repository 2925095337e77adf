//go:build !(mips || mipsle || mips64 || mips64le)

package command

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// A region is a part of the memory of this process. It is read through /proc,
// as by a debugger: no pointer of ours ever points to what is not ours.
type region struct{ from, to uintptr }

// anchor lies where the linker puts variables that are zero at first and have
// no pointers, as are the handlers.
var anchor [1]uint64

// variables returns where all variables of the program are that are zero at
// first, those of the runtime included. The others, of which there is ten times
// as much to read, begin as a part of the file, whose last page may be of both.
func variables() (region, error) { return around(uintptr(unsafe.Pointer(&anchor))) }

// around returns the memory around an address that can be written: ranges that
// follow each other without a gap are one.
func around(addr uintptr) (r region, err error) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return r, err
	}
	defer maps.Close()
	for in := bufio.NewScanner(maps); in.Scan(); {
		var from, to uintptr
		var mode, offset, device string
		var inode uint64 // 0 if it is no part of a file
		if _, err := fmt.Sscanf(in.Text(), "%x-%x %s %s %s %d", &from, &to, &mode, &offset, &device, &inode); err != nil {
			return r, err
		}
		if !strings.HasPrefix(mode, "rw") || strings.HasSuffix(in.Text(), "[heap]") {
			continue
		}
		switch {
		case from == r.to:
			r.to = to
		case r.from <= addr && addr < r.to:
			return r, nil
		default:
			r = region{from, to}
		}
		if inode != 0 {
			r.from = to - uintptr(os.Getpagesize())
		}
	}
	if r.from <= addr && addr < r.to {
		return r, nil
	}
	return r, os.ErrNotExist
}

// A piece of memory, from an address on.
type piece struct {
	from uintptr
	data []byte
}

// read returns what there is in a region. Most of the runtime's tables have
// never been touched: what the kernel has no memory for is left out.
func (r region) read() ([]piece, error) {
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	page := uintptr(os.Getpagesize())
	there := make([]byte, (r.to-r.from)/page)
	if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, r.from, r.to-r.from, uintptr(unsafe.Pointer(&there[0]))); errno != 0 {
		return nil, errno
	}
	var pieces []piece
	for i := 0; i < len(there); i++ {
		first := i
		for i < len(there) && there[i]&1 != 0 {
			i++
		}
		if i == first {
			continue
		}
		p := piece{r.from + uintptr(first)*page, make([]byte, uintptr(i-first)*page)}
		if _, err := mem.ReadAt(p.data, int64(p.from)); err != nil {
			return nil, err
		}
		pieces = append(pieces, p)
	}
	return pieces, nil
}
