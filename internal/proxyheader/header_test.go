package proxyheader

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// binaryHeader is one of version 2.
func binaryHeader(command, family byte, rest string) string {
	return second + string([]byte{command, family}) + string(binary.BigEndian.AppendUint16(nil, uint16(len(rest)))) + rest
}

const (
	v4   = "\xc0\x00\x02\x01" + "\xc6\x33\x64\x01" + "\xdc\x04" + "\x27\x0f"
	v6   = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\xdc\x04" + "\x27\x0f"
	v4in = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x01" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" + "\xdc\x04" + "\x27\x0f"
)

var headers = []struct {
	header string
	client string // "": none
	err    error
}{
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999\r\n", "192.0.2.1:56324", nil},
	{"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0", nil},
	{"PROXY TCP6 2001:db8::1 2001:db8::2 56324 9999\r\n", "[2001:db8::1]:56324", nil},
	{"PROXY TCP6 ::ffff:192.0.2.1 ::1 56324 9999\r\n", "192.0.2.1:56324", nil},
	{"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
		"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", nil},
	{"PROXY UNKNOWN\r\n", "", nil},
	{"PROXY UNKNOWN ffff:f:f 1.2.3.4 x\r\n", "", nil},
	{"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "", nil}, // 107 bytes
	{"PROXY UNKNOWN  ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n", "", ErrBroken},
	{"PROXY UNKNOWN " + strings.Repeat("x", 1000), "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999 1\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 9999 \r\n", "", ErrBroken},
	{"PROXY  TCP4 192.0.2.1 198.51.100.1 56324 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 056324 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 56324 09\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 65536 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 -1 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1 +1 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.1 198.51.100.1  9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2.01 198.51.100.1 1 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 192.0.2 198.51.100.1 1 9999\r\n", "", ErrBroken},
	{"PROXY TCP4 2001:db8::1 2001:db8::2 1 9999\r\n", "", ErrBroken},
	{"PROXY TCP6 192.0.2.1 198.51.100.1 1 9999\r\n", "", ErrBroken},
	{"PROXY TCP6 fe80::1%eth0 fe80::2 1 9999\r\n", "", ErrBroken},
	{"PROXY UDP4 192.0.2.1 198.51.100.1 1 9999\r\n", "", ErrBroken},
	{"PROXY UNKNOWNS\r\n", "", ErrBroken},
	{"PROXY \r\n", "", ErrBroken},
	{"PROXY \n", "", ErrBroken},
	{"PROXY\r\n", "", ErrNone},
	{"proxy TCP4 192.0.2.1 198.51.100.1 56324 9999\r\n", "", ErrNone},
	{"PROXYTCP4 192.0.2.1\r\n", "", ErrNone},
	{"g foo\n", "", ErrNone},
	{"\n", "", ErrNone},
	{"\x16\x03\x01", "", ErrNone},
	{"GET / HTTP/1.1\r\n", "", ErrNone},

	{binaryHeader(0x21, 0x11, v4), "192.0.2.1:56324", nil},
	{binaryHeader(0x21, 0x12, v4), "192.0.2.1:56324", nil},
	{binaryHeader(0x21, 0x11, v4+"\x04\x00\x01x"), "192.0.2.1:56324", nil}, // with more
	{binaryHeader(0x21, 0x21, v6), "[2001:db8::1]:56324", nil},
	{binaryHeader(0x21, 0x21, v4in), "192.0.2.1:56324", nil},
	{binaryHeader(0x21, 0x31, strings.Repeat("/", 216)), "", nil},
	{binaryHeader(0x21, 0x00, ""), "", nil},
	{binaryHeader(0x21, 0x00, "\x04\x00\x01x"), "", nil},
	{binaryHeader(0x20, 0x00, ""), "", nil},
	{binaryHeader(0x20, 0x11, v4), "", nil}, // the proxy's own, whatever stands there
	{binaryHeader(0x20, 0x11, ""), "", nil},
	{binaryHeader(0x20, 0xff, "x"), "", nil},
	{binaryHeader(0x21, 0x11, v4+strings.Repeat("\n", MaxSize-16-len(v4))), "192.0.2.1:56324", nil},
	{binaryHeader(0x21, 0x11, v4+strings.Repeat("\n", MaxSize-16-len(v4)+1)), "", ErrTooLong},
	{binaryHeader(0x20, 0x00, strings.Repeat("x", 65535)), "", ErrTooLong},
	{binaryHeader(0x21, 0x11, v4[1:]), "", ErrBroken},
	{binaryHeader(0x21, 0x11, ""), "", ErrBroken},
	{binaryHeader(0x21, 0x21, v6[1:]), "", ErrBroken},
	{binaryHeader(0x21, 0x31, strings.Repeat("/", 215)), "", ErrBroken},
	{binaryHeader(0x21, 0x13, v4), "", ErrBroken},
	{binaryHeader(0x21, 0x41, v6), "", ErrBroken},
	{binaryHeader(0x22, 0x11, v4), "", ErrBroken},
	{binaryHeader(0x11, 0x11, v4), "", ErrBroken},
	{binaryHeader(0x00, 0x11, v4), "", ErrBroken},
	{"\r\n\r\n\x00\r\nQUIT\r", "", ErrNone},
	{"\r\n\r\ng foo\n", "", ErrNone},
}

// A header means the same wherever its bytes are cut, and what is behind it is
// left alone.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, v := range headers {
		for _, behind := range []string{"", "g foo\n", "PROXY UNKNOWN\r\n", v.header} {
			in := v.header + behind
			var client netip.AddrPort
			var size int
			var err error
			for n := 0; n <= len(in) && size == 0 && err == nil; n++ {
				client, size, err = Parse([]byte(in[:n]))
				if size > 0 && n != len(v.header) || err == nil && size == 0 && n >= MaxSize {
					t.Errorf("%.120q: after %d bytes: %v, size %d", v.header, n, client, size)
				}
			}
			whole, wholeSize, wholeErr := Parse([]byte(in))
			if whole != client || wholeSize != size || wholeErr != err {
				t.Errorf("%.120q: %v, %d, %v; byte by byte %v, %d, %v", in, whole, wholeSize, wholeErr, client, size, err)
			}
			want := netip.AddrPort{}
			if v.client != "" {
				want = netip.MustParseAddrPort(v.client)
			}
			if client != want || !errors.Is(err, v.err) || err == nil && size != len(v.header) {
				t.Errorf("%.120q: got %v, size %d, %v; want %v, %v", v.header, client, size, err, want, v.err)
			}
		}
	}
}

// However the bytes come, the outcome is that of all of them; it comes within
// MaxSize; and what is no header is not taken for one.
func FuzzParse(f *testing.F) {
	for _, v := range headers {
		f.Add(v.header + "g foo\n")
	}
	f.Fuzz(func(t *testing.T, in string) {
		client, size, err := Parse([]byte(in))
		switch {
		case size < 0 || size > len(in) || size > MaxSize:
			t.Fatalf("size %d of %d", size, len(in))
		case size > 0 && err != nil:
			t.Fatal("both a header and an error")
		case size == 0 && client.IsValid():
			t.Fatalf("a client, %v, without a header", client)
		case size == 0 && err == nil && len(in) >= MaxSize:
			t.Fatal("undecided")
		case client.Addr().Is4In6() || client.Addr().Zone() != "":
			t.Fatalf("the client %v", client)
		case size > 0 && !strings.HasPrefix(in, first) && !strings.HasPrefix(in, second):
			t.Fatal("it is no header")
		}
		for n := range in {
			c, s, e := Parse([]byte(in[:n]))
			switch {
			case e != nil && e != err:
				t.Fatalf("after %d bytes %v, in the end %v", n, e, err)
			case e == nil && s > 0 && (s != size || c != client):
				t.Fatalf("after %d bytes %v of %d, in the end %v of %d", n, c, s, client, size)
			case e == nil && s == 0 && size > 0 && n >= size:
				t.Fatalf("after %d bytes undecided, though %d are enough", n, size)
			}
		}
	})
}
