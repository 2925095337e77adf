package client

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/nylen/lockd/internal/wire"
)

// Fixed replies, without their newline.
var (
	tooManyConnections = strings.TrimSuffix(wire.TooManyConnections, "\n")
	disabled           = strings.TrimSuffix(wire.Disabled, "\n")
	tooManySessions    = strings.TrimSuffix(wire.TooManySessions, "\n")
	serverFull         = strings.TrimSuffix(wire.ServerFullAlone, "\n")
	lineTooLong        = strings.TrimSuffix(wire.LineTooLong, "\n")
	notAuthenticated   = strings.TrimSuffix(wire.NotAuthenticated, "\n")
)

// The texts of replies that say yes, without their number.
var (
	okText   = yesText(wire.OK)
	pongText = yesText(wire.Pong)
	byeText  = yesText(wire.Bye)
	endText  = yesText(wire.End)
)

func yesText(line string) string { return strings.TrimSuffix(strings.TrimPrefix(line, "1 "), "\n") }

// A reply is what a line says. Its rest points into the line.
type reply struct {
	n    int64
	rest []byte // what follows the text: the name, or all of it for a verb without text
	err  error  // the server says no
}

// parseReply reads a line that has to be the reply to the given request, with a
// number up to most. It fails, with ErrProtocol, if it cannot be: then some
// reply went missing or came twice, and the number is not to be believed.
func parseReply(line []byte, v *verb, name string, most int64) (reply, error) {
	n, text, ok := number(line)
	if !ok {
		return reply{}, notReply(line, v)
	}
	want := v.yes
	if n == 0 {
		if want = v.no; want == "" || !hasPrefix(text, want) {
			return reply{err: refusal(line, v)}, nil
		}
	}
	if n > most || !hasPrefix(text, want) {
		return reply{}, notReply(line, v)
	}
	r := reply{n: n, rest: text[len(want):]}
	if want != "" && want[len(want)-1] == ' ' && !echoes(r.rest, name) {
		return reply{}, notReply(line, v)
	}
	if n == 0 {
		r.err = v.fail
	}
	return r, nil
}

func notReply(line []byte, v *verb) error {
	if v == auth {
		return fmt.Errorf("%w to %q", ErrProtocol, v.word) // the token may be in it
	}
	const enough = 200
	return fmt.Errorf("%w to %q: %q", ErrProtocol, v.word, line[:min(len(line), enough)])
}

// number splits `NUMBER TEXT`.
func number(line []byte) (n int64, text []byte, ok bool) {
	const digits = 18 // as many as an int64 holds whatever they are
	i := 0
	for i < len(line) && i < digits && '0' <= line[i] && line[i] <= '9' {
		n = n*10 + int64(line[i]-'0')
		i++
	}
	if i == 0 || i == len(line) || line[i] != ' ' {
		return 0, nil, false
	}
	return n, line[i+1:], true
}

// echoes tells whether a reply's name can be the one that was asked for. The
// two are equal, unless the server rewrote a name that is not ASCII: glockd
// folds all of Unicode's blanks, lockd for Node.js replaces each byte that is
// not UTF-8 by three.
func echoes(got []byte, name string) bool {
	if string(got) == name {
		return true
	}
	if len(got) > 3*len(name) {
		return false
	}
	for i := 0; i < len(name); i++ {
		if name[i] >= 0x80 {
			return true
		}
	}
	return false
}

// refusal names the error of a line that begins with 0 and is no answer.
func refusal(line []byte, v *verb) error {
	switch text := line[len("0 "):]; {
	case string(line) == disabled:
		return ErrDisabled
	case string(line) == lineTooLong:
		return ErrLineTooLong
	case hasPrefix(text, wire.TooManyLocks):
		return ErrTooManyLocks
	case hasPrefix(text, wire.ServerFull), string(line) == serverFull:
		return ErrServerFull
	case hasPrefix(text, wire.TooManyWaiters):
		return ErrTooManyWaiters
	case hasPrefix(text, wire.ShuttingDown):
		return ErrShuttingDown
	case hasPrefix(text, wire.ServerRecovering):
		return ErrRecovering
	case hasPrefix(text, wire.Unavailable):
		return ErrUnavailable
	case hasPrefix(text, wire.NotAllowed):
		return fmt.Errorf("%w: this client may not send %q, or not with that name", ErrNotAllowed, v.word)
	case string(line) == authFailed:
		return ErrAuthFailed
	case string(line) == notAuthenticated:
		return ErrNotAuthenticated
	case v.missing != nil && hasPrefix(text, wire.InvalidCommand):
		return v.missing
	case string(line) == tooManySessions:
		return ErrTooManySessions
	}
	return &ReplyError{Reply: string(line)}
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// isEnd tells whether a line is the answer to the end mark. Nobody knows the name that
// one inspects, so no line of a dump can be taken for it.
func isEnd(line []byte, mark string) bool {
	if mark == pongMark {
		return string(line) == "1 "+pongText
	}
	if len(line) < len(mark) || string(line[len(line)-len(mark):]) != mark {
		return false
	}
	n, text, ok := number(line[:len(line)-len(mark)])
	return ok && (n == 0 && string(text) == wire.NotLocked || n == 1 && string(text) == wire.IsLocked)
}

// refused returns the error of a reply of many lines that is a refusal
// instead. A line of a list has a ": " in it and these have none, but one.
func refused(chunks [][]byte, v *verb) error {
	if len(chunks) != 1 {
		return nil
	}
	line, more, _ := bytes.Cut(chunks[0], []byte("\n"))
	switch {
	case len(more) > 0 || !hasPrefix(line, "0 "):
		return nil
	case string(line) == "0 "+wire.NotAllowed+v.word || !bytes.Contains(line, []byte(": ")):
		return refusal(line, v)
	}
	return nil
}

// splitFirst cuts `KEY: VALUE` where it is the key that cannot have a ": " in
// it, an address or a counter.
func splitFirst(line string) (key, value string, err error) {
	return cut(line, strings.Index(line, ": "))
}

// splitLast cuts `NAME: HOLDER`, where both may have a ": " in them. Names of
// locks often do ("user: 17") and addresses never, so the last one it is; it
// is the wrong one only if the holder registered under a name that has one.
func splitLast(line string) (name, holder string, err error) {
	return cut(line, strings.LastIndex(line, ": "))
}

func cut(line string, at int) (before, after string, err error) {
	if at < 0 {
		// The end mark came behind it, so the connection is in step.
		return "", "", &ReplyError{Reply: line}
	}
	return line[:at], line[at+len(": "):], nil
}
