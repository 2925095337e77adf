package session

import (
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// lossesReply is the reply to `losses`: a line a loss, the newest first, and the end.
type lossesReply struct {
	session *Session
	before  uint64 // the sequence number of the last one
	left    int    // how many more may come
	match   func(*Loss) bool
}

// lossesStep is how many are copied at a time.
const lossesStep = 16

// MostLosses is how many losses one may ask for.
const MostLosses = 100_000

func (s *Session) textLosses(name, out []byte) []byte {
	r := &lossesReply{session: s, left: int(s.args().a)}
	only, prefix := string(name), ""
	if a := s.stream.Access(); a != nil {
		prefix = a.Prefix
	}
	switch {
	case only != "":
		r.match = func(l *Loss) bool { return l.Name == only && l.More == 0 }
	case prefix != "": // it may know of no others
		r.match = func(l *Loss) bool { return len(l.Name) >= len(prefix) && l.Name[:len(prefix)] == prefix }
	}
	return s.list(r, out)
}

func (r *lossesReply) next(out []byte) ([]byte, bool) {
	limit := len(out) + r.session.hub.pieceBytes()
	for more := true; more; {
		var page []Loss
		page, r.before = r.session.hub.Losses(r.before, min(r.left, lossesStep), r.match)
		now := time.Now()
		for i := range page {
			out = appendLoss(r.session.item(out), &page[i], now)
		}
		r.left -= len(page)
		if more = r.before != 0 && r.left > 0; more && len(out) >= limit {
			return out, true
		}
	}
	return append(r.session.prefix(out), wire.End...), false
}

func (r *lossesReply) rest()      {}
func (r *lossesReply) keeps() int { return 0 }
func (r *lossesReply) close()     {}

// appendLoss appends a line. No field but the name is empty, and none has a TAB in
// it.
func appendLoss(out []byte, l *Loss, now time.Time) []byte {
	number := func(n int64) { out = strconv.AppendInt(append(out, '\t'), max(0, n), 10) }
	text := func(s string) {
		if s == "" {
			s = "-"
		}
		out = append(append(out, '\t'), s...)
	}
	out = append(out, l.Name...)
	number(int64(l.Seq))
	text(l.Kind.String())
	text(l.What.String())
	text(l.Why.String())
	number(now.Sub(l.At).Milliseconds())
	number(l.Lasted.Milliseconds())
	number(int64(max(l.Token, uint64(l.Count))))
	text(l.Address)
	text(l.Client)
	text(l.Identity)
	number(int64(l.Times))
	number(int64(l.More))
	text(l.Bound)
	text(l.By)
	text(l.Holder)
	number(int64(l.Waiting))
	if len(l.Waiters) == 0 {
		text("")
	}
	for i, w := range l.Waiters {
		sep := byte(',')
		if i == 0 {
			sep = '\t'
		}
		out = appendListed(append(out, sep), w)
	}
	text(l.Process)
	return append(out, '\n')
}

// appendListed appends one of a list with commas, quoted if it would not be one word
// of it.
func appendListed(out []byte, text string) []byte {
	if text == "-" || strings.ContainsRune(text, ',') {
		return strconv.AppendQuote(out, text)
	}
	return appendWord(out, text)
}
