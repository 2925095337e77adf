package conn

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/internal/session"
)

// framed begins a stream of frames, and one of lines, of the same server.
func framed(t *testing.T, cfg Config) (*frames, *session.Stream) {
	s := NewServer(cfg)
	var framed, lines session.Stream
	t.Cleanup(func() {
		framed.Close()
		lines.Close()
		s.hub.Close()
	})
	framed.Begin(s.hub, session.Address{Name: "f"}, nobody{}, &session.Turn{})
	lines.Begin(s.hub, session.Address{Name: "l"}, nobody{}, &session.Turn{})
	return newFrames(s, &framed), &lines
}

func masked(body string) []byte {
	return ws.MustCompileFrame(ws.MaskFrameInPlace(ws.NewTextFrame([]byte(body))))
}

func say(st *session.Stream, in []byte) {
	for {
		var next session.Next
		if in, _, next = st.Advance(in, nil); next != session.Full && next != session.More && next != session.Early {
			return
		}
	}
}

// replies returns the texts of the messages in out.
func replies(t *testing.T, out []byte) (all []string) {
	t.Helper()
	for r := bytes.NewReader(out); r.Len() > 0; {
		f, err := ws.ReadFrame(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(f.Payload))
	}
	return all
}

// A client that always waits, and sends ever more, costs no more memory than
// the backlog.
func TestQueueOfMessagesIsBounded(t *testing.T) {
	f, lines := framed(t, testConfig())
	say(lines, []byte("g x\n"))
	message := masked("gw 60000 x")
	most := 0
	for range 200000 {
		f.Advance(bytes.Clone(message), nil)
		most = max(most, cap(f.queue))
	}
	if most > 8192 {
		t.Errorf("the queue has room for %d messages of at most %d", most, session.MaxBacklog/64)
	}
}

// A long reply goes out when it is as much as may be pending, however long its
// parts take.
func TestLongReplyInFramesIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Session.MaxOutput = 1 << 20
	f, lines := framed(t, cfg)
	var in []byte
	for i := range 200000 {
		in = fmt.Appendf(in, "g %0100d\n", i)
	}
	say(lines, in)
	out, most := []byte(nil), 0
	in = masked("d")
	for {
		var next session.Next
		in, out, next = f.Advance(in, out)
		most = max(most, len(out))
		if next == session.Full {
			out = out[:0]
		} else if next != session.More && next != session.Early {
			break
		}
	}
	if most > 2*cfg.Session.MaxOutput {
		t.Errorf("%d bytes are pending, bound %d", most, cfg.Session.MaxOutput)
	}
}

// Many requests in one message do not take longer than a turn.
func TestTurnOfAMessageIsBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Session.MaxSessions = 5000
	f, lines := framed(t, cfg)
	in := []byte("hello 2\n")
	for i := range 4000 {
		in = fmt.Appendf(in, "%d iam n%d\n", i, i)
	}
	say(lines, in)
	f.Advance(masked("hello 2"), nil)
	in = masked(strings.Repeat("1 who x\n", 8000))
	out, turns := []byte(nil), 0
	for next := session.More; next == session.More || next == session.Full; turns++ {
		if in, out, next = f.Advance(in, out); next == session.Full {
			out = out[:0]
		}
	}
	if turns < 10 { // it is some hundred milliseconds of work
		t.Errorf("%d turns", turns)
	}
}

// What a client gives up waiting for has its own reply, also if the message that
// is too much is one line.
func TestGiveUpAndLongLineAreTwoMessages(t *testing.T) {
	f, lines := framed(t, testConfig())
	say(lines, []byte("g x\n"))
	f.Advance(masked("gw 60000 x"), nil)
	_, out, _ := f.Advance(masked(strings.Repeat("a", 64<<10)), nil)
	if got := replies(t, out); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// absence is a network all of whose clients are gone.
type absence struct{}

func (absence) Connections() int                   { return 0 }
func (absence) CatchUp(func()) bool                { return false }
func (absence) Gone([]session.Carrier) int         { return 0 }
func (absence) Want([]session.Carrier)             {}
func (absence) Detach(session.Carrier)             {}
func (absence) Outlives(session.Carrier)           {}
func (absence) Kick(session.Carrier, session.Kick) {}

func (absence) Authenticated(*session.Stream, *session.Access) {}

// somebody is another carrier that nobody wakes.
type somebody struct{ _ int }

func (*somebody) Wake() {}

// What many sessions wait for is answered, all of it, also while a request is
// postponed: who was woken once is not woken again.
func TestSettlesAllWhilePostponed(t *testing.T) {
	cfg := testConfig()
	cfg.Session.MaxSessions = 5000
	cfg.Session.Postpone = time.Minute
	h := session.NewHub(cfg.Session, absence{})
	var st, lines session.Stream
	st.Begin(h, session.Address{Name: "f"}, new(somebody), &session.Turn{Looks: 1})
	lines.Begin(h, session.Address{Name: "l"}, new(somebody), &session.Turn{})
	f := newFrames(NewServer(cfg), &st)
	defer h.Close()
	defer lines.Close()
	defer st.Close()
	const waits = 4000
	for i := range waits {
		say(&lines, fmt.Appendf(nil, "g %d\n", i))
	}
	say(&lines, []byte("g x\n"))
	f.Advance(masked("hello 2"), nil)
	for i := range waits {
		f.Advance(masked(fmt.Sprintf("%d gw 60000 %d", i, i)), nil)
	}
	if _, _, next := f.Advance(masked("4500 g x"), nil); next != session.Waiting {
		t.Fatalf("not postponed: next is %d", next)
	}
	for i := range waits {
		say(&lines, fmt.Appendf(nil, "r %d\n", i))
	}
	answered := 0
	for next := session.Full; next != session.Waiting; {
		var out []byte
		_, out, next = f.Advance(nil, nil)
		for _, r := range replies(t, out) {
			answered += strings.Count(r, "\n")
		}
	}
	if answered != waits {
		t.Errorf("%d of %d waits are answered", answered, waits)
	}
}
