package conn

import (
	"bytes"
	"encoding/binary"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/session"
)

// frames are a stream in WebSocket frames (RFC 6455): they take and give a
// connection's bytes as a stream does, by the same contract.
//
// In protocol 1 a message is one or more requests and each reply is one message,
// of the request's type; in protocol 2 a message is whole lines, both ways.
// While the stream waits messages wait with it, and control frames are answered.
type frames struct {
	server *Server
	stream *session.Stream

	header [ws.MaxHeaderSize]byte // the beginning of a frame
	have   int                    // how much of it has come
	frame  ws.Header              // of the frame whose payload is being read, if within
	within bool
	pulse  pulse
	left   int64 // of its payload
	state  ws.State
	op     ws.OpCode // type of the message that is being read
	body   []byte    // what has come of it
	ping   []byte    // or of a control frame

	queue  []message // that have not been answered
	first  int       // of them
	queued int       // their size

	answers ws.OpCode // type of the message that is being answered, or that waits
	begun   bool      // a reply's first frame is out, and its last one is not
	next    session.Next
}

// A message is lines, the last of which has its end, too.
type message struct {
	op   ws.OpCode
	body []byte
	at   int // what has been answered
}

// size is about what a message takes in memory.
func (m *message) size() int { return len(m.body) + 64 }

func newFrames(s *Server, st *session.Stream) *frames {
	st.Apart()
	f := &frames{server: s, stream: st, state: ws.StateServerSide}
	f.pulse.begin(s)
	return f
}

// keeps is how many bytes are kept for the connection.
func (f *frames) keeps() int {
	n := f.queued + cap(f.ping)
	if cap(f.body) > keptBody {
		n += cap(f.body)
	}
	return n
}

// keptBody is how large a buffer for messages an idle connection keeps, and
// keptMessages for how many.
const (
	keptBody     = 256
	keptMessages = 4
)

// Advance is the stream's, in frames.
func (f *frames) Advance(in, out []byte) (rest, _ []byte, _ session.Next) {
	fed := len(in) > 0
	f.stream.Notice()
	if fed {
		f.pulse.beat()
	}
	for f.next != session.Closing {
		if f.next == session.Waiting && f.queued >= session.MaxBacklog {
			if reply := f.stream.GiveUp(nil); len(reply) > 0 {
				out = f.write(out, true, reply)
			}
			f.next = session.Idle
		}
		if f.next != session.Waiting || f.stream.GoesOn() { // else frames would each look for the end of the line that waits
			out = f.answer(out)
		}
		switch {
		case f.next == session.Idle && len(in) == 0:
			f.next = f.stream.Pause(fed)
			if next := f.next; next != session.Closing {
				f.next = session.Idle
				return nil, out, next
			}
			out = f.goAway(out)
		case f.next == session.Waiting && f.queued >= session.MaxBacklog:
			// The next one waits, and is given up, too.
		case len(in) == 0 || f.next != session.Idle && f.next != session.Waiting:
			return in, out, f.next
		case len(out) >= f.server.cfg.Session.MaxOutput:
			return in, out, session.Full
		default:
			in, out = f.read(in, out)
		}
	}
	return nil, out, f.next
}

// move has the frames go on with another stream.
func (f *frames) move(to *session.Stream) { f.stream, f.next = to, session.Idle }

// answer runs the stream over the messages, and settles what it can.
func (f *frames) answer(out []byte) []byte {
	buffer := outBuffers.Get().(*[]byte)
	defer recycle(buffer)
	reply := (*buffer)[:0]
	for began := (time.Time{}); ; {
		if len(reply) == 0 {
			if reply = f.stream.Settle(reply); len(reply) > 0 {
				out = f.write(out, true, reply)
				reply = reply[:0]
			}
		}
		line := f.line()
		var rest []byte
		rest, reply, f.next = f.stream.Answer(line, reply)
		*buffer = reply
		share := false
		if line != nil && len(rest) == 0 {
			f.answers = f.queue[f.first].op
			share = f.took(len(line)) && f.stream.Multiplexed()
		}
		full := len(out)+len(reply) >= f.server.cfg.Session.MaxOutput
		over := false
		if f.next == session.Idle && len(f.queue) > 0 {
			if began.IsZero() {
				began = time.Now()
			} else {
				over = time.Since(began) > session.LongTurn
			}
			if share && !full && !over {
				continue // the replies to a message's lines share a message
			}
		}
		if whole := !f.stream.Replying(); len(reply) > 0 || whole && f.begun {
			out = f.write(out, whole, reply)
			f.begun = !whole
		}
		reply = reply[:0]
		switch {
		case f.next == session.Closing:
			return f.close(out, ws.StatusNormalClosure, "")
		case f.next == session.Early:
			return out
		case full && (f.next != session.Idle || len(f.queue) > 0 || f.stream.Settles()):
			// A long reply that has had its time, or that others wait, does not
			// mean that there is room for more.
			f.next = session.Full
			return out
		case f.next != session.Idle || len(f.queue) == 0 && !f.stream.Settles():
			return out
		case over:
			f.next = session.More
			return out
		}
	}
}

// line returns the next line of the messages, its end included, or nil while
// there is none or a reply is not all there yet.
func (f *frames) line() []byte {
	if len(f.queue) == 0 || f.stream.Replying() {
		return nil
	}
	m := &f.queue[f.first]
	return m.body[m.at : m.at+bytes.IndexByte(m.body[m.at:], '\n')+1]
}

// took notes that a line of n bytes has been answered, and tells whether its
// message has more of them.
func (f *frames) took(n int) bool {
	m := &f.queue[f.first]
	if m.at += n; m.at < len(m.body) {
		return true
	}
	f.queued -= m.size()
	if f.body == nil && cap(m.body) <= keptBody {
		f.body = m.body[:0]
	}
	*m = message{}
	if f.first++; f.first == len(f.queue) {
		if f.queue, f.first = f.queue[:0], 0; cap(f.queue) > keptMessages {
			f.queue = nil
		}
	}
	return false
}

// read takes a part of a frame. When it is the last one, the frame counts.
func (f *frames) read(in, out []byte) (rest, _ []byte) {
	if !f.within {
		in, f.within = f.readHeader(in)
		if !f.within {
			return in, out
		}
		if code, text := f.begin(); code != 0 {
			return nil, f.close(out, code, text)
		}
	}
	n := int(min(f.left, int64(len(in))))
	ws.Cipher(in[:n], f.frame.Mask, int(f.frame.Length-f.left))
	// The frame's length is only a claim: the body grows with what comes.
	if f.frame.OpCode.IsControl() {
		f.ping = append(f.ping, in[:n]...)
	} else {
		f.body = append(f.body, in[:n]...)
	}
	if f.left -= int64(n); f.left > 0 {
		return nil, out
	}
	f.within, f.have = false, 0
	switch in = in[n:]; {
	case f.frame.OpCode.IsControl():
		out = f.endControl(out)
		f.ping = nil
	case !f.frame.Fin:
		f.state = f.state.Set(ws.StateFragmented)
	default:
		f.state = f.state.Clear(ws.StateFragmented)
		out = f.endMessage(out)
	}
	return in, out
}

// readHeader takes a part of a frame's header and tells whether that is all.
func (f *frames) readHeader(in []byte) (rest []byte, whole bool) {
	for len(in) > 0 {
		f.header[f.have], in = in[0], in[1:]
		if f.have++; f.have >= 2 && f.have == headerSize(f.header[1]) {
			return in, true
		}
	}
	return in, false
}

// headerSize returns how long a header is with this second byte.
func headerSize(second byte) int {
	size := 2
	switch second & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if second&0x80 != 0 {
		size += 4
	}
	return size
}

// begin looks at a frame whose header is there, and returns why it ends the
// connection, if it does.
func (f *frames) begin() (code ws.StatusCode, text string) {
	first, second, rest := f.header[0], f.header[1], f.header[2:f.have]
	h := ws.Header{Fin: first&0x80 != 0, Rsv: first >> 4 & 7, OpCode: ws.OpCode(first & 0xf), Masked: second&0x80 != 0}
	switch n := second & 0x7f; n {
	case 126:
		h.Length, rest = int64(binary.BigEndian.Uint16(rest)), rest[2:]
	case 127:
		h.Length, rest = int64(binary.BigEndian.Uint64(rest)), rest[8:]
	default:
		h.Length = int64(n)
	}
	copy(h.Mask[:], rest)
	err := ws.CheckHeader(h, f.state)
	if h.Length < 0 {
		err = ws.ErrHeaderLengthMSB
	}
	if err != nil {
		f.server.refuse(badFrame)
		return ws.StatusProtocolError, err.Error()
	}
	f.frame, f.left = h, h.Length
	if h.OpCode.IsControl() {
		return 0, ""
	}
	f.pulse.spoke()
	if h.Length > int64(f.mostMessage()-len(f.body)) {
		f.server.refuse(messageTooBig)
		return ws.StatusMessageTooBig, "message too big"
	}
	if h.OpCode != ws.OpContinuation {
		f.op = h.OpCode
	}
	return 0, ""
}

// mostMessage bounds a message. Who has not said yet who it is has that to say, and
// no more is kept of it.
func (f *frames) mostMessage() int {
	most := f.server.cfg.MaxMessage
	if f.stream.Newcomer() {
		most = min(most, f.server.cfg.Session.MaxLine+1)
	}
	return most
}

// endControl answers pings, takes note of pongs, and ends the connection when the client closes it.
// Control frames may come between the frames of a message.
func (f *frames) endControl(out []byte) []byte {
	switch f.frame.OpCode {
	case ws.OpPing:
		return appendFrame(out, ws.OpPong, true, f.ping)
	case ws.OpPong:
		f.pulse.answered()
	case ws.OpClose:
		if len(f.ping) == 0 {
			f.stream.EndsFor(session.WhyDisconnect)
			return f.close(out, ws.StatusNormalClosure, "")
		}
		code, text := ws.ParseCloseFrameData(f.ping)
		if err := ws.CheckCloseFrameData(code, text); err != nil || len(f.ping) == 1 {
			f.server.refuse(badFrame)
			return f.close(out, ws.StatusProtocolError, "malformed close frame")
		}
		f.stream.EndsFor(session.WhyDisconnect)
		return f.close(out, code, "")
	}
	return out
}

// endMessage puts the message that has come into the queue.
func (f *frames) endMessage(out []byte) []byte {
	body := f.body
	if f.op == ws.OpText && !utf8.Valid(body) {
		f.server.refuse(badFrame)
		return f.close(out, ws.StatusInvalidFramePayloadData, "text message is not UTF-8")
	}
	if len(body) == 0 {
		return out
	}
	if body[len(body)-1] != '\n' {
		body = append(body, '\n')
	}
	f.body = nil
	if f.first > 0 && len(f.queue) == cap(f.queue) {
		n := copy(f.queue, f.queue[f.first:])
		clear(f.queue[n:])
		f.queue, f.first = f.queue[:n], 0
	}
	m := message{op: f.op, body: body}
	f.queue = append(f.queue, m)
	f.queued += m.size()
	return out
}

// write appends a frame of a reply. Names that are not UTF-8 cannot be shown in
// a text message; a binary one has them unchanged.
func (f *frames) write(out []byte, fin bool, payload []byte) []byte {
	if f.answers == ws.OpText && !utf8.Valid(payload) {
		payload = bytes.ToValidUTF8(payload, []byte("\uFFFD"))
	}
	op := f.answers
	if f.begun {
		op = ws.OpContinuation
	}
	return appendFrame(out, op, fin, payload)
}

// close appends the frame that ends the connection.
func (f *frames) close(out []byte, code ws.StatusCode, text string) []byte {
	f.next = session.Closing
	return appendFrame(out, ws.OpClose, true, ws.NewCloseFrameBody(code, text))
}

// goAway tells the client that the server is shutting down.
func (f *frames) goAway(out []byte) []byte {
	return f.close(out, ws.StatusGoingAway, shuttingDown)
}

// endFor tells the client why the server ends it.
func (f *frames) endFor(out []byte, why error) []byte {
	return f.close(out, ws.StatusPolicyViolation, why.Error())
}

// appendFrame appends a frame, by section 5.2 of RFC 6455.
func appendFrame(out []byte, op ws.OpCode, fin bool, payload []byte) []byte {
	first := byte(op)
	if fin {
		first |= 0x80
	}
	out = append(out, first)
	switch n := len(payload); {
	case n < 126:
		out = append(out, byte(n))
	case n < 1<<16:
		out = binary.BigEndian.AppendUint16(append(out, 126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, 127), uint64(n))
	}
	return append(out, payload...)
}
