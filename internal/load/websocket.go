package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// Over WebSocket a request is a message of one frame, and so is each reply. The
// requests of a connection are all of one length, so they share a header, which
// stands before the request's head as if it were part of it. Its mask is 0: that
// leaves the bytes as they are, and the server has as much to do as with others.

// frameHeader returns the header of a request of n bytes.
func frameHeader(n int) []byte {
	var b bytes.Buffer
	// It cannot fail: the length is not negative, and there is memory.
	_ = ws.WriteHeader(&b, ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: int64(n)})
	return b.Bytes()
}

const final = 0x80 // in a frame's first byte: no more frames of the message follow

// frame returns the payload of the first message of in and its size with what comes
// before it, which is 0 while it is not all there. By hand, where the library would
// allocate for each. A ping is passed over: lockd sends one to a client that is
// silent, and goes on if it is not answered.
func frame(in []byte) (payload []byte, size int, err error) {
	if len(in) < 2 {
		return nil, 0, nil
	}
	begin, n := 2, uint64(in[1])
	switch {
	case n == 126 && len(in) >= 4:
		begin, n = 4, uint64(binary.BigEndian.Uint16(in[2:]))
	case n == 127 && len(in) >= 10:
		begin, n = 10, binary.BigEndian.Uint64(in[2:])
	case n == 126 || n == 127:
		return nil, 0, nil
	case n > 127:
		return nil, 0, errors.New("reply out of step: a frame with a mask")
	}
	if n > maxReply {
		return nil, 0, fmt.Errorf("reply out of step: a frame of %d bytes", n)
	}
	size = begin + int(n)
	if len(in) < size {
		return nil, 0, nil
	}
	payload = in[begin:size]
	switch in[0] {
	case final | byte(ws.OpText), final | byte(ws.OpBinary):
		if bytes.IndexByte(payload, '\n') != len(payload)-1 || len(payload) == 0 {
			return nil, 0, fmt.Errorf("reply out of step: a message that is not one line: %.80q", payload)
		}
		return payload, size, nil
	case final | byte(ws.OpPing):
		if payload, n, err := frame(in[size:]); n > 0 || err != nil {
			return payload, size + n, err
		}
		return nil, 0, nil
	case final | byte(ws.OpClose):
		code, text := ws.ParseCloseFrameData(payload)
		return nil, 0, fmt.Errorf("%w (WebSocket code %d %s)", errEnded, code, text)
	}
	return nil, 0, fmt.Errorf("reply out of step: a frame that is no whole message (it begins with %#02x)", in[0])
}

// upgrade makes a connection one of WebSocket. It names the server's own origin,
// without which glockd lets nobody in.
func upgrade(conn net.Conn, to *url.URL, until time.Time) error {
	conn.SetDeadline(until)
	defer conn.SetDeadline(time.Time{})
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP{"Origin": []string{"http" + strings.TrimPrefix(to.Scheme, "ws") + "://" + to.Host}}}
	early, _, err := d.Upgrade(conn, to)
	switch {
	case err == ws.StatusError(http.StatusServiceUnavailable):
		return errors.New("too many connections")
	case err == nil && early != nil && early.Buffered() > 0:
		return errors.New("the server said something before it was asked")
	}
	return err
}
