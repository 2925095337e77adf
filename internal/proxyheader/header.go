// Package proxyheader reads the header with which a proxy begins a connection
// to tell whose it is: versions 1 and 2 of the PROXY protocol
// (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt).
//
// It is bytes in, an address out: who may send a header, and how long it may
// take, is for others to say. What is no header, by the letter, is an error, so
// that nobody's requests are taken for one.
package proxyheader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strconv"
)

// MaxSize is how many bytes a header may have. Version 2 has room for 65,551,
// of which the addresses take 52, or 232; beside them may stand what else the
// proxy knows, such as the client's certificate, of 1 to 2 KB.
const MaxSize = 4096

// The errors of Parse.
var (
	ErrNone    = errors.New("it does not begin with a PROXY header")
	ErrBroken  = errors.New("its PROXY header is broken")
	ErrTooLong = errors.New("its PROXY header is longer than " + strconv.Itoa(MaxSize) + " bytes")
)

const (
	first = "PROXY " // what version 1 begins with
	// maxFirst is how long the line of version 1 may be.
	maxFirst = 107
	second   = "\r\n\r\n\x00\r\nQUIT\n" // what version 2 begins with
	// fixed is how long the part of version 2 is that is always there.
	fixed = len(second) + 4
)

// Parse reads the header that in begins with, and returns how long it is, or 0
// when there is more to come of it. The client is the one whose connection the
// proxy passes on. It is not valid if there is no such client (the proxy asks
// by itself whether somebody is there) or it has no IP address.
func Parse(in []byte) (client netip.AddrPort, size int, err error) {
	switch {
	case begins(in, first):
		return parseFirst(in)
	case begins(in, second):
		return parseSecond(in)
	}
	return client, 0, ErrNone
}

// begins tells whether in begins with a text, or is the beginning of it.
func begins(in []byte, text string) bool {
	n := min(len(in), len(text))
	return string(in[:n]) == text[:n]
}

// parseFirst reads a line such as
//
//	PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999
func parseFirst(in []byte) (client netip.AddrPort, size int, err error) {
	end := bytes.IndexByte(in[:min(len(in), maxFirst)], '\n')
	switch {
	case end < 0 && len(in) < maxFirst:
		return client, 0, nil
	case end < len(first) || in[end-1] != '\r':
		return client, 0, ErrBroken
	}
	words := bytes.Split(in[len(first):end-1], []byte{' '})
	family := string(words[0])
	if family == "UNKNOWN" { // whatever stands behind it
		return client, end + 1, nil
	}
	if len(words) != 5 {
		return client, 0, ErrBroken
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(string(words[1+i]))
		port, ok := parsePort(words[3+i])
		if err != nil || !ok || addr.Zone() != "" || !(family == "TCP4" && addr.Is4() || family == "TCP6" && addr.Is6()) {
			return client, 0, ErrBroken
		}
		ends[i] = netip.AddrPortFrom(addr.Unmap(), port)
	}
	return ends[0], end + 1, nil
}

// parsePort reads a port, without signs and leading zeros.
func parsePort(word []byte) (uint16, bool) {
	n, err := strconv.ParseUint(string(word), 10, 16)
	return uint16(n), err == nil && (word[0] != '0' || len(word) == 1)
}

// parseSecond reads a header in binary: the signature, version and command in a
// byte, family and protocol in another, the length of what follows; then the
// addresses, and what else the proxy tells, which is passed over.
func parseSecond(in []byte) (client netip.AddrPort, size int, err error) {
	if len(in) < fixed {
		return client, 0, nil
	}
	command, family, rest := in[len(second)], in[len(second)+1], in[fixed:]
	length := int(binary.BigEndian.Uint16(in[len(second)+2:]))
	if command != 0x20 && command != 0x21 {
		return client, 0, ErrBroken
	}
	if fixed+length > MaxSize {
		return client, 0, ErrTooLong
	}
	addrs := 0 // how long the addresses are
	if command == 0x21 {
		switch family {
		case 0x00: // of no family
		case 0x11, 0x12:
			addrs = 2*4 + 4
		case 0x21, 0x22:
			addrs = 2*16 + 4
		case 0x31, 0x32: // unix sockets
			addrs = 2 * 108
		default:
			return client, 0, ErrBroken
		}
	}
	switch {
	case length < addrs:
		return client, 0, ErrBroken
	case len(rest) < length:
		return client, 0, nil
	case addrs == 2*4+4:
		client = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[2*4:]))
	case addrs == 2*16+4:
		client = netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[2*16:]))
	}
	return client, fixed + length, nil
}
