package session

// A stranger is somebody who does not mean a lock server, by what is sent.
// Nothing of that may be executed: with luck, or by intent, there are lines in
// it that are requests.
type stranger uint8

const (
	noStranger stranger = iota
	strangerHTTP
	strangerTLS     // it begins to shake hands
	strangerControl // it begins with a control character
)

func (s stranger) String() string {
	return [...]string{
		"",
		"it speaks HTTP",
		"it speaks TLS, which is not for this port",
		"it began with a control character",
	}[s]
}

// Stranger tells what the client spoke instead of the protocol, if it was cut off
// for that; else "".
func (st *Stream) Stranger() string { return st.stranger.String() }

// greet looks at the first byte that a client sends on a connection of lines. No
// request begins with a control character, other than a blank or the end of an
// empty line. It returns what is left of the input: nothing, if the client is a
// stranger.
func (st *Stream) greet(in []byte) []byte {
	st.begun = true
	c := in[0]
	if c >= ' ' && c != 0x7f || c >= '\t' && c <= '\r' {
		return in
	}
	st.closing = true
	if c == 0x16 && (len(in) == 1 || in[1] == 0x03) { // a record of TLS with a handshake
		st.stranger = strangerTLS
		st.counters.tls.Add(1)
	} else {
		st.stranger = strangerControl
		st.counters.control.Add(1)
	}
	return nil
}
