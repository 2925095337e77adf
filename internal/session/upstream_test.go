package session

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lease "github.com/nylen/lockd/internal/kept"
)

// A fakeUpstream is a proxy's hub, and the test is its server: it sees what is sent and
// says what is received.
type fakeUpstream struct {
	*Upstream
	t       *testing.T
	hub     *Hub
	network *detaching
	cuts    chan struct{} // the end of the connection is asked for
}

// detaching is a network that knows whom it is to end.
type detaching struct {
	noNetwork
	mu  sync.Mutex // guards all
	all map[Carrier]bool
}

func (d *detaching) Detach(c Carrier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all[c] = true
}

func (d *detaching) has(c Carrier) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all[c]
}

// A plainCarrier is somebody to be ended.
type plainCarrier struct{ name string }

func (*plainCarrier) Wake() {}

func newFakeUpstream(t *testing.T, cfg UpstreamConfig) *fakeUpstream {
	t.Helper()
	nothing := func() {}
	cuts := make(chan struct{}, 1)
	cfg.Log = func(string, ...any) {}
	if cfg.Flush == nil {
		cfg.Flush = nothing
	}
	cfg.Cut = func() {
		select {
		case cuts <- struct{}{}:
		default:
		}
	}
	if cfg.Relay == nil {
		cfg.Relay = func(string, []byte, Relay) func() { return nothing }
	}
	own := testConfig()
	own.Upstream, own.DeadPeer = &cfg, time.Millisecond
	f := &fakeUpstream{t: t, network: &detaching{all: make(map[Carrier]bool)}, cuts: cuts}
	f.hub = NewHub(own, f.network)
	f.Upstream = f.hub.Upstream()
	f.mu.Lock()
	f.pinged = lease.Now() + time.Hour // no sign of life is asked for
	f.mu.Unlock()
	t.Cleanup(f.hub.Close)
	return f
}

// sends expects that this is sent.
func (f *fakeUpstream) sends(want string) {
	f.t.Helper()
	if got := string(f.Take(nil)); got != want {
		f.t.Fatalf("upstream is sent\n%.300q, want\n%.300q", got, want)
	}
}

// says has upstream say something.
func (f *fakeUpstream) says(lines string) {
	f.t.Helper()
	if err := f.Receive([]byte(lines)); err != nil {
		f.t.Fatalf("%q: %v", lines, err)
	}
}

const fakeKey = "0123456789abcdef0123456789abcdef"

// begins has a connection begin that is kept for an hour.
func (f *fakeUpstream) begins() {
	f.t.Helper()
	f.Begin("")
	f.sends("hello 2 notices\n")
	f.says("2 lockd test\n")
	f.sends("0 keep 86400000\n")
	f.says("0 3600000 Kept: " + fakeKey + "\n")
	f.sends("0 claimed\n")
	f.says("0 1 ok\n")
}

// again has another one begin, up to where sessions are taken up.
func (f *fakeUpstream) again(reply string) {
	f.t.Helper()
	f.Begin("")
	f.sends("hello 2 notices\n")
	f.says("2 lockd test\n")
	f.sends("0 resume " + fakeKey + "\n")
	f.says(reply)
}

// A fakeClient is a client of it.
type fakeClient struct {
	*Stream
	t       *testing.T
	carrier *plainCarrier
}

func (f *fakeUpstream) client(addr string) *fakeClient {
	c := &fakeClient{t: f.t, carrier: &plainCarrier{addr}}
	c.Stream = newStream(f.hub, addr, c.carrier)
	f.t.Cleanup(c.Close)
	return c
}

// feed gives it bytes and returns what it is told by now.
func (c *fakeClient) feed(in string) string {
	c.turn.Begin(0)
	_, out, _ := c.Advance([]byte(in), nil)
	return string(out)
}

// gets expects replies, which take a while, having sent something first.
func (c *fakeClient) gets(want string, sent ...string) {
	c.t.Helper()
	got := ""
	for _, in := range sent {
		got += c.feed(in)
	}
	for end := time.Now().Add(20 * time.Second); len(got) < len(want) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		got += c.feed("")
	}
	if got != want {
		c.t.Fatalf("%s is told\n%q, want\n%q", c.Address(), got, want)
	}
}

// The look-out may have seen that upstream was away, and come to a session when it is
// back: what has been asked once more there is under way.
func TestUpstreamLateAsItComesBack(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a := f.client("a")
	if got := a.feed("g x\ni y\n"); got != "" {
		t.Fatalf("told %q", got)
	}
	f.sends("1 g x\n1 i y\n")
	f.again("0 1 Resumed: " + fakeKey + "\n")
	f.sends("1 g x\n1 i y\n0 claimed\n")
	a.main.remote.late(1<<20, plainTicks, 1<<19, 0)
	a.gets("0 Server Recovering: x\n1 Lock Is Locked: y\n")
	if got := a.feed("i z\n"); got != "" {
		t.Fatalf("told %q", got)
	}
	f.sends("1 i z\n")
	f.says("1 7 Lock Get Success: x\n1 1 Lock Is Locked: y\n1 0 Lock Not Locked: z\n")
	a.gets("0 Lock Not Locked: z\n")
	f.sends("1 r x\n") // nobody knows that it has got that
}

// tooLate has so much time pass that nothing may be believed any more.
func (f *fakeUpstream) tooLate() { f.lease.Store(lease.New(time.Hour, 0, lease.Now()-2*time.Hour)) }

// Who finds that upstream was not heard for too long ends those who hold something before
// anything is passed on; and who holds nothing is told what it has asked for.
func TestUpstreamTooLate(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	holder, waiter, other := f.client("holder"), f.client("waiter"), f.client("other")
	holder.feed("g x\n")
	f.says("1 7 Lock Get Success: x\n")
	holder.gets("1 Lock Get Success: x\n")
	waiter.feed("gw 60000 x\n")
	holder.feed("i y\n")
	other.feed("i x\n")
	f.says("1 0 Lock Not Locked: y\n3 1 Lock Is Locked: x\n")
	f.tooLate()
	got := other.feed("")
	if !f.network.has(holder.carrier) || !f.network.has(waiter.carrier) {
		t.Error("somebody is told something before those have ended who held or waited")
	}
	if got != "1 Lock Is Locked: x\n" {
		t.Errorf("who holds nothing is told %q", got)
	}
	if got := holder.feed(""); got != "" {
		t.Errorf("who has lost a lock is told %q", got)
	}
	if f.network.has(other.carrier) {
		t.Error("who holds nothing is ended")
	}
}

// After a pause all that was asked is overdue. Nobody is answered in upstream's place then
// before those have ended who hold something, be it that they release it.
func TestUpstreamPaused(t *testing.T) {
	paused, goOn := make(chan struct{}), make(chan struct{})
	var pauses atomic.Bool
	f := newFakeUpstream(t, UpstreamConfig{Flush: func() {
		if pauses.CompareAndSwap(true, false) {
			close(paused)
			<-goOn
		}
	}})
	f.begins()
	holder := f.client("holder")
	holder.feed("g x\n")
	f.says("1 7 Lock Get Success: x\n")
	holder.gets("1 Lock Get Success: x\n")
	pauses.Store(true)
	f.mu.Lock()
	f.pinged = 0 // the look-out has that sent
	f.mu.Unlock()
	<-paused
	f.Lost(nil)
	holder.feed("g x\nr x\n")
	time.Sleep(2 * plainTicks * tickEvery)
	f.tooLate()
	close(goOn)
	for end := time.Now().Add(20 * time.Second); !f.network.has(holder.carrier) && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got := holder.feed(""); got != "" {
			t.Fatalf("told %q", got)
		}
	}
	if got := holder.feed(""); got != "" || !f.network.has(holder.carrier) {
		t.Errorf("told %q, ended: %v", got, f.network.has(holder.carrier))
	}
}

// What comes over a connection that is given up is nobody's.
func TestUpstreamGivenUp(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a := f.client("a")
	a.feed("g x\n")
	f.sends("1 g x\n")
	f.tooLate()
	f.giveUp() // who holds nothing stays
	if err := f.Receive([]byte("1 7 Lock Get Success: x\n")); err == nil {
		t.Error("the connection is still of use")
	}
	a.gets("0 Server Recovering: x\n")
	if n := a.Held(); n != 0 {
		t.Errorf("it holds %d locks", n)
	}
}

// A claim that is accepted when its holder has been told that it holds the lock no more
// does not give it that back.
func TestUpstreamClaimOfReleased(t *testing.T) {
	for lock, words := range map[string][3]string{
		"g x":  {"7 Lock Get Success: x", "claim 7 x", "7 Lock Claim Success: x"},
		"sg x": {"1 Shared Lock Get Success: x", "claims 1 x", "1 Shared Lock Claim Success: x"},
	} {
		f := newFakeUpstream(t, UpstreamConfig{})
		f.begins()
		a := f.client("a")
		a.feed(lock + "\n")
		f.sends("1 " + lock + "\n")
		f.says("1 " + words[0] + "\n")
		a.gets("1" + words[0][1:] + "\n")
		f.again("0 2 Resumed: " + fakeKey + "\n")
		f.sends("1 " + words[1] + "\n0 claimed\n")
		release := strings.Replace(lock, "g", "r", 1)
		a.feed(release + "\n")
		text := "1 Lock Release Success: x\n"
		if lock[0] == 's' {
			text = "1 Shared Lock Release Success: x\n"
		}
		a.gets(text) // in upstream's place
		f.says("1 " + words[2] + "\n0 1 ok\n1 " + text)
		if n := a.Held(); n != 0 {
			t.Errorf("%s: it holds what it has released", lock)
		}
	}
}

// Who has waited in line for longer than patience lasts keeps its place when upstream is
// away for a moment.
func TestUpstreamPatience(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{Patience: time.Second})
	f.begins()
	a, two := f.client("a"), f.client("two")
	a.feed("gw 60000 x\n")
	if got := two.feed("hello 2\n5 i y\n"); !strings.HasPrefix(got, "2 lockd ") {
		t.Fatalf("told %q", got)
	}
	time.Sleep(f.cfg.Patience + 3*tickEvery)
	f.Lost(nil)
	time.Sleep(3 * tickEvery)
	got := a.feed("") + two.feed("")
	f.again("0 1 Resumed: " + fakeKey + "\n")
	if got != "" {
		t.Fatalf("told %q", got)
	}
	sent := string(f.Take(nil))
	if !strings.Contains(sent, "\n2 i y\n") || !strings.HasPrefix(sent, "1 gw 5") {
		t.Errorf("upstream is sent %q", sent)
	}
	f.says("1 7 Lock Get Success: x\n2 0 Lock Not Locked: y\n")
	a.gets("1 Lock Get Success: x\n")
	two.gets("5 0 Lock Not Locked: y\n")
	f.Lost(nil)
	two.feed("5 i y\n")
	two.gets("5 1 Lock Is Locked: y\n") // in upstream's place
}

// A client that goes while upstream is away, and never was there, leaves nothing behind;
// and of one that was there only that is left.
func TestUpstreamAwayAsClientsGo(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	known := f.client("known")
	known.feed("g x\ng y\n")
	f.sends("1 g x\n1 g y\n")
	f.says("1 7 Lock Get Success: x\n")
	f.Lost(nil)
	known.feed("i z\n")
	known.Close()
	for range 1000 {
		c := f.client("c")
		c.feed("g " + strings.Repeat("x", 1000) + "\n")
		c.Close()
	}
	f.again("0 2 Resumed: " + fakeKey + "\n")
	f.sends("1 bye\n0 claimed\n")
	last := f.client("last")
	last.feed("g x\n")
	f.sends("2 g x\n") // 1 is not free yet
	f.says("1 1 bye\n")
	another := f.client("another")
	another.feed("i x\n")
	f.sends("1 i x\n")
}

// A session that upstream has ended is not taken up, though its client does not know yet.
func TestUpstreamEndsSession(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a := f.client("a")
	a.feed("g x\n")
	f.says("1 7 Lock Get Success: x\n")
	a.gets("1 Lock Get Success: x\n")
	a.feed("bye\n")
	f.sends("1 g x\n1 bye\n")
	f.says("1 1 bye\n")
	f.again("0 1 Resumed: " + fakeKey + "\n")
	f.sends("0 claimed\n")
	a.gets("1 bye\n")
	b := f.client("b")
	b.feed("i x\n")
	f.sends("1 i x\n")
}

// A client that registers all the time, and reads what it is answered, is not ahead of
// upstream by more than one name.
func TestUpstreamNames(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a := f.client("a")
	for _, away := range []bool{false, true} {
		if away {
			f.Lost(nil)
		}
		for range 1000 {
			feedName(a, strings.Repeat("x", 1000))
		}
		feedName(a, "last")
		if n := a.underWay.Load(); n > 8<<10 {
			t.Errorf("%d bytes are under way", n)
		}
		if away {
			f.again("0 1 Resumed: " + fakeKey + "\n")
			f.sends("1 iam last\n0 claimed\n")
			break
		}
		f.sends("1 iam " + strings.Repeat("x", 1000) + "\n")
		f.says("1 1 ok\n")
		f.sends("1 iam last\n")
		f.says("1 1 ok\n")
		f.sends("")
	}
	f.says("1 1 ok\n0 1 ok\n")
	f.Lost(nil)
	feedName(a, "") // which is taken back there, too
	f.again("0 1 Resumed: " + fakeKey + "\n")
	f.sends("1 iam\n0 claimed\n")
}

func feedName(c *fakeClient, name string) {
	c.t.Helper()
	if got := c.feed("iam " + name + "\n"); got != "1 ok\n" {
		c.t.Fatalf("told %q", got)
	}
}

// A client that says bye while upstream is away is answered all that it has asked before.
func TestUpstreamAwayAtBye(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a, two := f.client("a"), f.client("two")
	two.feed("hello 2\n")
	f.Lost(nil)
	a.gets("0 Server Recovering: x\n1 Lock Is Locked: y\n1 bye\n", "g x\ni y\nbye\n")
	two.gets("5 0 Server Recovering: x\n5 1 bye\n6 0 Server Recovering: y\n6 1 bye\n", "5 gw 60000 x\n5 bye\n6 g y\n6 bye\n")
}

// What is answered here, and what is answered in upstream's place, come in their order.
func TestUpstreamLateInOrder(t *testing.T) {
	for what, begin := range map[string]func(f *fakeUpstream){
		"away":   func(f *fakeUpstream) { f.Lost(nil) },
		"silent": func(f *fakeUpstream) {},
	} {
		t.Run(what, func(t *testing.T) {
			f := newFakeUpstream(t, UpstreamConfig{})
			f.begins()
			a := f.client("a")
			begin(f)
			replies := "0 Server Recovering: x\n1 a a\n1 Lock Is Locked: y\n1 ok\n1 a b\n0 Lock Release Failure: z\n0 Server Recovering: s\n" +
				"0 Server Recovering: r\n0 Lock Not Held: t\n"
			a.gets(replies, "g x\nme\ni y\niam b\nme\nr z\nsg s\nrl 1 1 1 r\nt t\n")
			a.gets(replies[strings.Index(replies, "1 a b"):], "me\nr z\nsg s\nrl 1 1 1 r\nt t\n")
		})
	}
}

// A server that owes an answer is tried over another connection, also one that does not
// even greet; what is held is given up by time alone.
func TestUpstreamDoesNotAnswer(t *testing.T) {
	for what, connect := range map[string]func(f *fakeUpstream){
		"greets": func(f *fakeUpstream) { f.Begin("") },
		"resume": func(f *fakeUpstream) { f.again("") },
		"ping": func(f *fakeUpstream) {
			f.again("0 1 Resumed: " + fakeKey + "\n")
			f.mu.Lock()
			f.pinged = 0
			f.mu.Unlock()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newFakeUpstream(t, UpstreamConfig{})
			f.begins()
			f.lease.Store(lease.New(9*time.Second, 0, lease.Now())) // silent for some 2 s
			connect(f)
			select {
			case <-f.cuts:
				if f.lease.Load() == nil {
					t.Error("what is held is given up")
				}
			case <-time.After(20 * time.Second):
				t.Error("it stays connected")
			}
		})
	}
	for keep, want := range map[time.Duration]time.Duration{0: deadMost, time.Second: deadLeast, time.Hour: deadMost} {
		l := lease.New(keep, 0, lease.Now())
		if keep == 0 {
			l = nil
		}
		if got := silentMost(l); got != want {
			t.Errorf("kept for %v it may be silent for %v, not %v", keep, got, want)
		}
	}
}

// While it does not read, not all of what clients send is buffered.
func TestUpstreamDoesNotRead(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	f.mu.Lock()
	f.pinged = 0
	f.mu.Unlock()
	line := "g " + strings.Repeat("x", 4000) + "\n"
	sent := 0
	for end := time.Now().Add(deadMost * 9 / 10); len(f.cuts) == 0; { // later it would be in any case
		if time.Now().After(end) {
			t.Fatal("it stays connected")
		}
		c := f.client("c")
		for range 5 { // of which all are taken
			if sent < mostBacklog+1<<20 {
				c.feed(line)
				sent += len(line)
			}
		}
		if sent >= mostBacklog+1<<20 {
			time.Sleep(time.Millisecond)
		}
		c.Close()
	}
	if sent < mostBacklog {
		t.Errorf("it is cut off with %d bytes", sent)
	}
	if f.lease.Load() == nil {
		t.Error("what is held is given up")
	}
}

// Only a server that says that it does not know the KEY has forgotten the proxy.
func TestUpstreamDoesNotResume(t *testing.T) {
	f := newFakeUpstream(t, UpstreamConfig{})
	f.begins()
	a := f.client("a")
	a.feed("g x\n")
	f.says("1 7 Lock Get Success: x\n")
	a.gets("1 Lock Get Success: x\n")
	for _, reply := range []string{"0 Not Authenticated", "0 Not Allowed: resume", "0 Too Many Connections", "0 Invalid Command: resume"} {
		f.again("")
		if err := f.Receive([]byte("0 " + reply + "\n")); err == nil {
			t.Errorf("%q will do", reply)
		}
		if f.network.has(a.carrier) {
			t.Fatalf("%q ends who holds something", reply)
		}
	}
	f.again("0 0 Unknown Key: " + fakeKey + "\n")
	f.sends("0 keep 86400000\n")
	if !f.network.has(a.carrier) {
		t.Error("who has lost a lock stays")
	}
}
