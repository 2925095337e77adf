package conn

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/wire"
)

// WebSocket returns a handler that serves WebSocket connections (RFC 6455) on
// whatever path it is put at. A browser's page must be of the same host as the
// request or of one of origins, each `scheme://host[:port]`, or "*" for any;
// clients that are no browsers send no origin and are let in.
func (h *Hub) WebSocket(origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowed(r, origins) {
			h.refuse(foreignOrigin)
			http.Error(w, "lockd: pages of "+r.Header.Get("Origin")+
				" may not connect here: allow them with --websocket-origin", http.StatusForbidden)
			return
		}
		if h.draining.Load() {
			http.Error(w, "lockd: "+shuttingDown, http.StatusServiceUnavailable)
			return
		}
		h.admission.admitted.Add(1)
		defer h.admission.admitted.Add(-1)
		if !h.admit(WebSocket) {
			http.Error(w, strings.TrimSpace(wire.TooManyConnections), http.StatusServiceUnavailable)
			return
		}
		c, rw, _, err := upgrader.Upgrade(r, w)
		if err != nil {
			h.refuse(badHandshake)
			h.leave(WebSocket)
			if c != nil {
				c.Close()
			}
			return
		}
		// In a goroutine of its own: this one holds the HTTP server's buffers.
		go h.serveMessages(c, rw.Reader)
	})
}

// upgrader agrees to the first subprotocol that a client asks for, as glockd
// does: a browser gives a connection up whose server agrees to none.
var upgrader = ws.HTTPUpgrader{Protocol: func(string) bool { return true }}

func allowed(r *http.Request, origins []string) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || slices.Contains(origins, "*") || slices.Contains(origins, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

func (h *Hub) serveMessages(c net.Conn, buffered *bufio.Reader) {
	setKeepAlive(c)
	l := h.newLink(c, WebSocket)
	if l == nil {
		c.SetWriteDeadline(time.Now().Add(partingWait))
		ws.WriteFrame(c, ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusGoingAway, shuttingDown)))
		c.Close()
		return
	}
	m := &messages{link: l, state: ws.StateServerSide}
	l.run = m.advance
	var source io.Reader = m.link
	if n := buffered.Buffered(); n > 0 {
		early, _ := buffered.Peek(n)
		source = io.MultiReader(bytes.NewReader(bytes.Clone(early)), source)
	}
	m.in = bufio.NewReaderSize(source, readBuffer)
	err := m.serve()
	var reason closing
	switch {
	case errors.As(err, &reason):
		m.frame(ws.OpClose, true, ws.NewCloseFrameBody(reason.code, reason.text))
		err = errClosing
	case err == errDrained:
		m.frame(ws.OpClose, true, ws.NewCloseFrameBody(ws.StatusGoingAway, shuttingDown))
	case hungUp(err):
		m.stream.HangUp()
		m.advance()
	}
	l.end(err)
}

const shuttingDown = "the server is shutting down"

// messages is a WebSocket connection. In protocol 1 a message is one or more
// requests and each reply is one message, of the request's type; in protocol
// 2 a message is whole lines, both ways.
type messages struct {
	*link
	in     *bufio.Reader
	header [ws.MaxHeaderSize]byte // of the frame that is being read
	framed [ws.MaxHeaderSize]byte // of the one that is being written, perhaps while a read waits
	state  ws.State
	op     ws.OpCode // type of the message that is being read
	body   []byte

	answers ws.OpCode // type of the request that is being answered, or waits
	reply   []byte
	backlog []message // that wait until a lock is granted
	waiting int       // the backlog's size
}

type message struct {
	op   ws.OpCode
	body []byte
}

// size is about what a message takes in memory.
func (m message) size() int { return len(m.body) + 64 }

// closing is the reason, told to the client, for which a connection is ended.
type closing struct {
	code ws.StatusCode
	text string
}

func (c closing) Error() string { return c.text }

func (m *messages) serve() error {
	for {
		h, err := ws.ReadHeaderBuffer(m.in, m.header[:])
		if err != nil {
			if errors.Is(err, ws.ErrHeaderLengthMSB) {
				m.hub.refuse(badFrame)
				return closing{ws.StatusProtocolError, err.Error()}
			}
			return err
		}
		if err := ws.CheckHeader(h, m.state); err != nil {
			m.hub.refuse(badFrame)
			return closing{ws.StatusProtocolError, err.Error()}
		}
		if h.OpCode.IsControl() {
			err = m.control(h)
		} else {
			err = m.data(h)
		}
		for err == nil && m.waiting >= maxBacklog {
			m.frame(m.answers, true, m.stream.CancelWait(nil))
			err = m.advance()
		}
		if err != nil {
			return err
		}
	}
}

// control answers pings and ends the connection when the client closes it.
// Control frames may come between the frames of a message.
func (m *messages) control(h ws.Header) error {
	var payload [ws.MaxControlFramePayloadSize]byte
	p := payload[:h.Length]
	if err := m.read(h, p); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		m.frame(ws.OpPong, true, p)
		return m.relieve()
	case ws.OpClose:
		if len(p) == 0 {
			return closing{ws.StatusNormalClosure, ""}
		}
		code, text := ws.ParseCloseFrameData(p)
		if err := ws.CheckCloseFrameData(code, text); err != nil || len(p) == 1 {
			m.hub.refuse(badFrame)
			return closing{ws.StatusProtocolError, "malformed close frame"}
		}
		return closing{code, ""}
	}
	return nil
}

// data takes a frame of a message and, when it is the last one, answers.
func (m *messages) data(h ws.Header) error {
	if h.Length > int64(m.hub.cfg.MaxMessage-len(m.body)) {
		m.hub.refuse(messageTooBig)
		return closing{ws.StatusMessageTooBig, "message too big"}
	}
	if h.OpCode != ws.OpContinuation {
		m.op = h.OpCode
	}
	// The frame's length is only a claim: the body grows with what comes.
	for left := int(h.Length); left > 0; {
		n := min(left, readBuffer)
		m.body = slices.Grow(m.body, n)
		p := m.body[len(m.body) : len(m.body)+n]
		if _, err := io.ReadFull(m.in, p); err != nil {
			return err
		}
		ws.Cipher(p, h.Mask, int(h.Length)-left)
		m.body = m.body[:len(m.body)+n]
		left -= n
	}
	if !h.Fin {
		m.state = m.state.Set(ws.StateFragmented)
		return nil
	}
	m.state = m.state.Clear(ws.StateFragmented)
	if m.op == ws.OpText && !utf8.Valid(m.body) {
		m.hub.refuse(badFrame)
		return closing{ws.StatusInvalidFramePayloadData, "text message is not UTF-8"}
	}
	err := m.take(message{m.op, m.body})
	if m.body = m.body[:0]; cap(m.body) > readBuffer {
		m.body = nil
	}
	return err
}

// take answers a message, or keeps a copy of what has to wait.
func (m *messages) take(msg message) error {
	if len(m.backlog) == 0 && !m.stream.Waiting() {
		rest, err := m.answer(msg)
		if err != nil || len(rest) == 0 {
			return err
		}
		msg.body = rest
	}
	if len(msg.body) == 0 {
		return nil // there is nothing to wait with
	}
	msg.body = bytes.Clone(msg.body)
	m.waiting += msg.size()
	m.backlog = append(m.backlog, msg)
	return nil
}

// advance settles what can be and goes on with the messages that waited for
// it.
func (m *messages) advance() error {
	for m.stream.Settles() {
		if m.reply = m.stream.Settle(m.reply[:0]); len(m.reply) > 0 {
			m.frame(m.answers, true, m.reply)
		}
		if err := m.ripen(); err != nil {
			return err
		}
		if err := m.relieve(); err != nil {
			return err
		}
	}
	for len(m.backlog) > 0 && !m.stream.Waiting() {
		msg := m.backlog[0]
		m.backlog = m.backlog[1:]
		m.waiting -= msg.size()
		rest, err := m.answer(msg)
		if err != nil {
			return err
		}
		if len(rest) > 0 {
			msg.body = rest
			m.waiting += msg.size()
			m.backlog = slices.Insert(m.backlog, 0, msg)
			return nil
		}
	}
	return nil
}

func (m *messages) read(h ws.Header, p []byte) error {
	_, err := io.ReadFull(m.in, p)
	ws.Cipher(p, h.Mask, 0)
	return err
}

// answer executes the requests of a message, until the stream waits for a
// lock, and returns what is left.
func (m *messages) answer(msg message) (rest []byte, err error) {
	m.answers = msg.op
	op := msg.op // of the next frame of a reply
	m.reply = m.reply[:0]
	body := msg.body
	for len(body) > 0 && !m.stream.Waiting() {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		body = rest
		m.reply = m.stream.Request(line, m.reply)
		if err := m.ripen(); err != nil {
			return nil, err
		}
		for m.stream.Listing() {
			m.reply = m.stream.Continue(m.reply)
			if len(m.reply) >= listingPiece && m.stream.Listing() {
				m.frame(op, false, m.reply)
				m.reply = m.reply[:0]
				op = ws.OpContinuation
				if err := m.relieve(); err != nil {
					return nil, err
				}
			}
		}
		if m.stream.multiplexed && len(body) > 0 && len(m.reply) < listingPiece && !m.stream.Closing() {
			continue // the replies to a message's lines share a message
		}
		if len(m.reply) > 0 || op == ws.OpContinuation {
			m.frame(op, true, m.reply)
		}
		op, m.reply = msg.op, m.reply[:0]
		if m.stream.Closing() {
			return nil, closing{ws.StatusNormalClosure, ""}
		}
		if err := m.relieve(); err != nil {
			return nil, err
		}
	}
	if cap(m.reply) > readBuffer {
		m.reply = nil
	}
	return body, nil
}

// frame appends a frame to what is pending. Names that are not UTF-8 cannot
// be shown in a text message; a binary one has them unchanged.
func (m *messages) frame(op ws.OpCode, fin bool, payload []byte) {
	if m.answers == ws.OpText && !op.IsControl() && !utf8.Valid(payload) {
		payload = bytes.ToValidUTF8(payload, []byte("\uFFFD"))
	}
	out := (*appender)(m.pending())
	// An appender does not fail.
	_ = ws.WriteHeaderBuffer(out, ws.Header{Fin: fin, OpCode: op, Length: int64(len(payload))}, m.framed[:])
	*out = append(*out, payload...)
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// handshakeTimeout bounds how long a client may take for its HTTP request.
const handshakeTimeout = 5 * time.Second

// handshakeReserve is how many handshakes are let in beyond the bound on
// connections, to be told that there are too many.
const handshakeReserve = 16

// NewWebSocketServer returns an HTTP server for listeners that have nothing
// but WebSocket connections. Those that have not shaken hands yet count, too,
// when it comes to the bound on connections.
func (h *Hub) NewWebSocketServer(origins []string) *http.Server {
	return &http.Server{
		Handler:           h.WebSocket(origins),
		ReadHeaderTimeout: handshakeTimeout,
		IdleTimeout:       handshakeTimeout,
		MaxHeaderBytes:    16 << 10,
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				n := h.admission.handshakes.Add(1) + h.admission.total.Load() - h.admission.admitted.Load()
				if n > int64(h.cfg.MaxConnections)+handshakeReserve {
					h.refuse(tooManyConnections)
					c.Close()
				}
			case http.StateHijacked, http.StateClosed:
				h.admission.handshakes.Add(-1)
			}
		},
	}
}
