package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// A webSocket carries a request a message. Requests are messages of their own
// here, so no server loses the one behind another. A request without a reply
// makes no message (an empty one on glockd), so replies of many lines need
// their end mark here too.
type webSocket struct {
	lineReader

	// conn is a pump over a socket, too: a peer may send any number of pings
	// without reading a pong, and whoever waited to write one would not read.
	conn *pump

	mu sync.Mutex // guards the sending side: a request and a pong may meet
	w  []byte     // the frames being sent; kept for its capacity
}

func openWebSocket(ctx context.Context, u *url.URL, dial func(context.Context) (net.Conn, error), use use) (transport, error) {
	d := ws.Dialer{
		NetDial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return unencrypted(conn, "wss://"), nil
		},
		TLSClient: func(conn net.Conn, _ string) net.Conn { return conn }, // dial has spoken TLS already
	}
	conn, early, _, err := d.Dial(ctx, u.String())
	if err == ws.StatusError(http.StatusForbidden) {
		// Only a page in a browser has an origin. But glockd refuses whoever
		// does not name one.
		d.Header = ws.HandshakeHeaderHTTP{"Origin": []string{"http" + strings.TrimPrefix(u.Scheme, "ws") + "://" + u.Host}}
		conn, early, _, err = d.Dial(ctx, u.String())
	}
	switch {
	case err == ws.StatusError(http.StatusServiceUnavailable):
		return nil, fmt.Errorf("%w: %w", ErrTooManyConnections, err)
	case err != nil:
		return nil, err
	}
	if early == nil {
		early = bufio.NewReader(conn)
	}
	t := &webSocket{conn: newPump(conn, use.room())}
	t.lineReader = newLineReader(&messageReader{t: t, r: early}, use)
	return t, nil
}

func (t *webSocket) send(r request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = t.w[:0]
	// Text has to be UTF-8, and a name need not be.
	op := ws.OpText
	if !utf8.ValidString(r.name) {
		op = ws.OpBinary
	}
	t.appendMessageLocked(op, r.verb, r.name)
	if r.mark != "" {
		verb, name := marking(r.mark)
		t.appendMessageLocked(ws.OpText, verb, name)
	}
	_, err := t.conn.Write(t.w)
	return err
}

// messageRoom is how many lines share a message: as many as fit, far below
// what a server takes.
const messageRoom = 4 << 10

func (t *webSocket) sendLines(b []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = t.w[:0]
	for len(b) > 0 {
		n := len(b)
		if n > messageRoom {
			if n = bytes.LastIndexByte(b[:messageRoom], '\n') + 1; n == 0 {
				n = bytes.IndexByte(b, '\n') + 1
			}
		}
		mask := t.appendHeaderLocked(ws.OpBinary, n)
		begin := len(t.w)
		t.w = append(t.w, b[:n]...)
		ws.Cipher(t.w[begin:], mask, 0)
		b = b[n:]
	}
	_, err := t.conn.Write(t.w)
	if cap(t.w) > keptRoom {
		t.w = nil
	}
	return err
}

func (t *webSocket) appendMessageLocked(op ws.OpCode, verb, name string) {
	n := len(verb)
	if name != "" {
		n += 1 + len(name)
	}
	mask := t.appendHeaderLocked(op, n)
	begin := len(t.w)
	t.w = appendRequest(t.w, verb, name)
	ws.Cipher(t.w[begin:], mask, 0)
}

// appendHeaderLocked begins a frame of n bytes and returns the mask that they
// need: what a client sends is always masked.
func (t *webSocket) appendHeaderLocked(op ws.OpCode, n int) [4]byte {
	h := ws.Header{Fin: true, OpCode: op, Masked: true, Mask: ws.NewMask(), Length: int64(n)}
	begin := len(t.w)
	t.w = append(t.w, make([]byte, ws.HeaderSize(h))...)
	// It cannot fail: the length is not negative and there is room.
	_ = ws.WriteHeader(&sliceWriter{t.w[begin:]}, h)
	return h.Mask
}

// A sliceWriter writes into a slice that is long enough.
type sliceWriter struct{ b []byte }

func (w *sliceWriter) Write(p []byte) (int, error) {
	n := copy(w.b, p)
	w.b = w.b[n:]
	return n, nil
}

// controlLocked returns a control frame, good until the next one is sent.
func (t *webSocket) controlLocked(op ws.OpCode, payload []byte) []byte {
	t.w = t.w[:0]
	mask := t.appendHeaderLocked(op, len(payload))
	begin := len(t.w)
	t.w = append(t.w, payload...)
	ws.Cipher(t.w[begin:], mask, 0)
	return t.w
}

func (t *webSocket) expireReads(at time.Time) { t.conn.SetReadDeadline(at) }

// close says goodbye, if the peer reads it soon.
func (t *webSocket) close() error {
	t.mu.Lock()
	t.conn.Write(t.controlLocked(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, "")))
	t.mu.Unlock()
	return t.conn.Close()
}

// A messageReader turns messages into a stream of lines: the bytes of each
// message and a newline. They pass through as they come, so a message needs no
// memory of its own and its size no bound; the bound on a line holds.
type messageReader struct {
	t      *webSocket
	r      *bufio.Reader
	header [ws.MaxHeaderSize]byte

	left  int64    // bytes of the data frame being read
	state ws.State // whether the message goes on in another frame
	inMsg bool     // a message was begun and its newline is still due
}

func (m *messageReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for m.left == 0 {
		if m.inMsg && !m.state.Fragmented() {
			m.inMsg = false
			p[0] = '\n'
			return 1, nil
		}
		if err := m.nextFrame(); err != nil {
			return 0, err
		}
	}
	n, err := m.r.Read(p[:min(int64(len(p)), m.left)])
	m.left -= int64(n)
	return n, err
}

func (m *messageReader) nextFrame() error {
	h, err := ws.ReadHeaderBuffer(m.r, m.header[:])
	if err != nil {
		return err
	}
	if err := ws.CheckHeader(h, m.state|ws.StateClientSide); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	if h.OpCode.IsControl() {
		return m.control(h)
	}
	m.left, m.inMsg = h.Length, true
	if h.Fin {
		m.state = m.state.Clear(ws.StateFragmented)
	} else {
		m.state = m.state.Set(ws.StateFragmented)
	}
	return nil
}

// control reads and answers a ping or a close.
func (m *messageReader) control(h ws.Header) error {
	payload := make([]byte, h.Length) // CheckHeader allows 125 bytes
	if _, err := io.ReadFull(m.r, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		m.t.mu.Lock()
		defer m.t.mu.Unlock()
		// A peer that has sent a ping after another asks for one pong (RFC
		// 6455, section 5.5.3), so those that it does not read do not pile up.
		return m.t.conn.writeLast(m.t.controlLocked(ws.OpPong, payload))
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(payload)
		if reason == tooManyConnections {
			return ErrTooManyConnections
		}
		return fmt.Errorf("server closed the WebSocket: %d %s: %w", code, reason, io.EOF)
	}
	return nil
}
