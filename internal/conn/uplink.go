package conn

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
)

// Upstream is the server that a proxy is one of.
type Upstream struct {
	Target   string // for people
	What     string // it is, for them
	Keep     time.Duration
	Patience time.Duration
	Prompt   time.Duration // see session.UpstreamConfig
	Loops    int           // how many event loops serve clients; 0: as many as befit a guest, see loopsWanted
	// Dial connects to it, and Token is what to show it; nil: nothing.
	Dial  func(context.Context) (net.Conn, error)
	Token func(context.Context) (string, error)
}

// An uplink has the connection of a proxy to its server, and makes a new one when that
// ends. What all loops have for it in a turn goes out together: whoever has something
// to send and finds nobody at it sends what there is. An event loop receives, where
// there is one that takes the connection; of others, such as those within TLS, a
// goroutine receives and one sends.
type uplink struct {
	server *Server
	place  int // among the server's
	to     *Upstream
	up     *session.Upstream
	log    *slog.Logger

	ctx    context.Context
	end    context.CancelFunc
	over   sync.WaitGroup
	relays chan struct{} // has one for each
	first  chan error    // what has become of the first connection that was made

	carry  sync.Mutex   // who has it calls what is of the connection in up
	quits  atomic.Bool  // upstream is told that the proxy ends
	wanted atomic.Int32 // calls of flush that are not made good yet; who makes it 1 sends

	mu   sync.Mutex // guards what follows
	conn net.Conn   // that a goroutine receives from; nil: there is none
	send chan struct{}
	uplinkSocket
	rest   []byte // being sent
	buffer []byte
}

func newUplink(s *Server, to *Upstream) *uplink {
	u := &uplink{server: s, to: to, log: s.cfg.Logger, first: make(chan error, 1), send: make(chan struct{}, 1), relays: make(chan struct{}, relaysMost)}
	u.socketInit()
	u.ctx, u.end = context.WithCancel(context.Background())
	return u
}

// config is for the session's side.
func (u *uplink) config() *session.UpstreamConfig {
	return &session.UpstreamConfig{
		Keep: u.to.Keep, Patience: u.to.Patience, Prompt: u.to.Prompt, Flush: u.flush, Cut: u.cut, End: u.giveUp, Relay: u.relay,
		Log: func(msg string, attrs ...any) { u.log.Info(msg, append(attrs, u.to.What, u.to.Target)...) },
	}
}

func (u *uplink) begin(up *session.Upstream) {
	u.up = up
	u.server.uplinks.add(u) // not before: whoever has something to send looks at all of them
	u.over.Go(u.run)
}

// The pauses before a connection is tried again, which double.
const (
	uplinkPause = 50 * time.Millisecond
	uplinkMost  = time.Second
)

// run makes one connection after another.
func (u *uplink) run() {
	defer u.server.uplinks.drop(u)
	pause := uplinkPause
	var last string
	for u.ctx.Err() == nil {
		dialed, err := u.connect()
		if u.ctx.Err() != nil {
			return
		}
		var refused error
		if !dialed && isNobody(err) {
			refused = err
		}
		u.carry.Lock()
		served := dialed && u.up.Serves()
		u.up.Lost(refused)
		u.carry.Unlock()
		if u.quits.Load() { // as it was asked to
			return
		}
		select {
		case u.first <- err:
		default:
		}
		if served { // not one that is sent away each time
			pause, last = uplinkPause, ""
		}
		if text := u.plainly(err); text != last { // the same again is no news
			last = text
			u.log.Warn("cannot reach "+u.to.What, u.to.What, u.to.Target, "err", text)
		}
		select {
		case <-u.ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, uplinkMost)
	}
}

// unlinked is what another node's replies mean for who runs them.
var unlinked = strings.NewReplacer(
	// Of a certificate that is refused one hears when the connection is there already.
	"lockd: the server wants a client certificate", "the node wants a certificate: --node-cert and --node-key",
	"lockd: the server does not know the authority that has issued the client certificate", "the node does not know the authority that has issued --node-cert",
	"lockd: the server does not accept the client certificate", "the node does not accept --node-cert, which has to be one for clients",
	"the server does not know the token", "the node does not know the token of --node-token-file: it has to be in the auth file there, with the role node",
	"the node does not take this one's link: Not Authenticated", "the node asks for a token of the role node: --node-token-file",
	"the node does not take this one's link: "+wire.NotAllowed+wire.Link, "the token of --node-token-file has not the role node there",
	"the node does not take this one's link: "+wire.OtherNode, "another node is at that address, one that was started since, or has the same --advertise: ",
)

// plainly says why there is no connection.
func (u *uplink) plainly(err error) string {
	if u.to.What == linkToNode {
		return unlinked.Replace(err.Error())
	}
	return err.Error()
}

// isNobody tells whether connecting has failed because there is no server.
func isNobody(err error) bool {
	const onWindows = syscall.Errno(10061)
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, onWindows) || errors.Is(err, fs.ErrNotExist)
}

// connect makes a connection and serves it to its end. It tells whether there was one.
func (u *uplink) connect() (dialed bool, err error) {
	conn, err := u.to.Dial(u.ctx)
	if err != nil {
		return false, err
	}
	token := ""
	if u.to.Token != nil {
		if token, err = u.to.Token(u.ctx); err != nil {
			conn.Close()
			return true, err
		}
	}
	u.carry.Lock()
	u.up.Begin(token)
	u.carry.Unlock()
	if ok, err := u.onLoop(conn); ok {
		return true, err
	}
	return true, u.onGoroutines(conn)
}

// onGoroutines serves the connection by two goroutines.
func (u *uplink) onGoroutines(conn net.Conn) error {
	u.mu.Lock()
	u.conn = conn
	u.mu.Unlock()
	stop := context.AfterFunc(u.ctx, func() { conn.Close() })
	defer stop()
	ended := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() { u.sendAll(conn, ended) })
	u.flush()
	in := make([]byte, 64<<10)
	var err error
	for err == nil {
		var n int
		if n, err = conn.Read(in); n > 0 {
			if wrong := u.receive(in[:n]); wrong != nil {
				err = wrong
			}
		}
	}
	u.mu.Lock()
	u.conn = nil
	u.mu.Unlock()
	conn.Close()
	close(ended)
	sender.Wait()
	return endOf(err)
}

func endOf(err error) error {
	if err == io.EOF {
		return errors.New("it has closed the connection")
	}
	return err
}

func (u *uplink) receive(in []byte) error {
	u.carry.Lock()
	err := u.up.Receive(in)
	if err == nil && u.up.Replays() {
		u.up.GoOn()
	}
	u.carry.Unlock()
	if u.up.Live() && err == nil {
		select {
		case u.first <- nil:
		default:
		}
	}
	u.flush()
	return err
}

// sendAll sends what there is whenever there is something.
func (u *uplink) sendAll(conn net.Conn, ended <-chan struct{}) {
	var buffer []byte
	for {
		select {
		case <-ended:
			return
		case <-u.send:
		}
		for u.up.Pending() {
			buffer = u.up.Take(buffer)
			if _, err := conn.Write(buffer); err != nil {
				conn.Close()
				return
			}
			u.goOn()
		}
	}
}

// goOn has what is claimed go on, when all before is sent.
func (u *uplink) goOn() {
	if u.carry.TryLock() { // or who has it does so itself
		u.up.GoOn()
		u.carry.Unlock()
	}
}

// flush has what there is sent.
func (u *uplink) flush() {
	if !u.up.Pending() || u.wanted.Add(1) != 1 {
		return
	}
	for {
		n := u.wanted.Load()
		u.mu.Lock()
		if u.conn != nil {
			select {
			case u.send <- struct{}{}:
			default:
			}
		} else {
			u.writeLocked()
		}
		u.mu.Unlock()
		if u.up.Replays() {
			u.goOn()
		}
		if u.wanted.CompareAndSwap(n, 0) {
			return
		}
	}
}

// cut ends the connection; another one is made.
func (u *uplink) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.conn != nil {
		socket(u.conn).Close() // TLS would send that it closes, to one who may not read
	}
	u.shutLocked()
}

// quitWait is for how long the end of the proxy waits until upstream knows of it.
const quitWait = time.Second

// stop ends it: upstream is told that nothing is to be kept.
//
// A node's link is not ended for good: what its clients hold that are kept is theirs to take up by way
// of another node.
func (u *uplink) stop() {
	if u.to.What == linkToNode {
		settled := make(chan struct{})
		u.up.Settled(func() { close(settled) })
		select {
		case <-settled:
		case <-time.After(quitWait):
		}
	} else if u.up.Live() {
		u.quits.Store(true)
		u.carry.Lock()
		u.up.Quit()
		u.carry.Unlock()
		u.flush()
		for end := time.Now().Add(quitWait); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if !u.up.Live() {
				break
			}
		}
	}
	u.end()
	u.cut()
	u.over.Wait()
}

// giveUp ends it, as it is of no use any more. It waits for nothing.
func (u *uplink) giveUp() {
	u.end()
	u.cut()
}

// uplinks are those of a server: a proxy has one, a node of a cluster one to each other node.
type uplinks struct {
	all     atomic.Pointer[[]*uplink] // by place; nil where one has ended. mu guards writes
	serials atomic.Int32              // of their connections
	mu      sync.Mutex
}

func (s *uplinks) init() { s.all.Store(new([]*uplink)) }

func (s *uplinks) add(u *uplink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(*s.all.Load())
	if u.place = slices.Index(all, nil); u.place < 0 {
		u.place = len(all)
		all = append(all, u)
	} else {
		all[u.place] = u
	}
	s.all.Store(&all)
}

func (s *uplinks) drop(u *uplink) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(*s.all.Load())
	if all[u.place] == u {
		all[u.place] = nil
		s.all.Store(&all)
	}
}

// at returns the one at a place; nil: it has ended.
func (s *uplinks) at(place int) *uplink {
	if all := *s.all.Load(); place < len(all) {
		return all[place]
	}
	return nil
}

// flush has what there is for them sent.
func (s *uplinks) flush() {
	for _, u := range *s.all.Load() {
		if u != nil {
			u.flush()
		}
	}
}

// stop ends them.
func (s *uplinks) stop() {
	for _, u := range *s.all.Load() {
		if u != nil {
			u.stop()
		}
	}
}

// FirstUpstream waits until there is a connection that serves, and returns what is wrong if
// there is none.
func (s *Server) FirstUpstream(ctx context.Context) error {
	select {
	case err := <-s.proxy.first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
