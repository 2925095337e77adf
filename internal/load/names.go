package load

import (
	"fmt"
	"math/rand/v2"
)

// A namer chooses names. A name is a number in hexadecimal, as many digits of
// it as fit behind the prefix.
type namer struct {
	names  Names
	size   int
	prefix string
	digits int
	count  uint64
	rand   *rand.Rand
	zipf   *rand.Zipf
	next   uint64 // for New
	step   uint64
}

const (
	namePrefix = "bench:"
	minDigits  = 10 // with less room than this for them, no prefix
	maxDigits  = 16
	// zipfSkew makes the hottest of 100,000 names a tenth of all.
	zipfSkew = 1.1
)

// newNamer returns the namer of a worker.
func newNamer(o *Options, worker int) (*namer, error) {
	n := &namer{names: o.Names, size: o.NameSize, count: uint64(o.NameCount)}
	if n.size >= len(namePrefix)+minDigits {
		n.prefix = namePrefix
	}
	n.digits = min(maxDigits, n.size-len(n.prefix))
	n.rand = rand.New(rand.NewPCG(1, uint64(worker)))
	switch o.Names {
	case One:
	case New:
		// Unlike those of earlier runs, and of the other workers.
		n.next = rand.Uint64() - uint64(worker)
		n.next -= n.next%uint64(o.Threads) - uint64(worker)
		n.step = uint64(o.Threads)
	case Zipf:
		n.zipf = rand.NewZipf(n.rand, zipfSkew, 1, n.count-1)
		fallthrough
	case Uniform:
		if n.digits < maxDigits && (n.count-1)>>(4*n.digits) != 0 {
			return nil, fmt.Errorf("%d names do not fit in names of %d bytes", n.count, n.size)
		}
	default:
		return nil, fmt.Errorf("names must be %s, %s, %s or %s, not %q", One, Uniform, Zipf, New, o.Names)
	}
	return n, nil
}

// choose returns the number of the next name.
func (n *namer) choose() uint64 {
	switch n.names {
	case Uniform:
		return n.rand.Uint64N(n.count)
	case Zipf:
		return n.zipf.Uint64()
	case New:
		n.next += n.step
		return n.next
	}
	return 0
}

const hex = "0123456789abcdef"

// append appends the name of a number.
func (n *namer) append(dst []byte, number uint64) []byte {
	dst = append(dst, n.prefix...)
	for range n.size - len(n.prefix) - n.digits {
		dst = append(dst, '0')
	}
	at := len(dst)
	dst = append(dst, hex[:n.digits]...)
	for i := len(dst) - 1; i >= at; i-- {
		dst[i] = hex[number&15]
		number >>= 4
	}
	return dst
}

// ends tells whether a line ends in the name of a number, whose lower 32 bits
// are given. It looks at no more than it takes to tell replies out of step.
func (n *namer) ends(line []byte, number uint32) bool {
	digits := min(n.digits, 4)
	if len(line) < digits {
		return false
	}
	for i := len(line) - 1; i >= len(line)-digits; i-- {
		if line[i] != hex[number&15] {
			return false
		}
		number >>= 4
	}
	return true
}
