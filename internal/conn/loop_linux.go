//go:build linux && !noloop

package conn

import (
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// loops are the event loops of a hub, one for each processor that Go uses.
// Started with the first connection.
type loops struct {
	start     sync.Once
	all       []*loop
	running   atomic.Pointer[[]*loop] // all; nil while there are none
	next      uint32                  // where to look first for whom to give a connection; guarded by roster.mu
	acceptors uint32                  // that there have been; guarded by roster.mu
	catchUp   catchUp

	descriptors descriptors
}

// startedLoops returns the loops, which it starts if there are none yet.
func (s *Server) startedLoops() []*loop {
	s.loops.start.Do(func() { s.startLoops(s.loopsWanted(runtime.GOMAXPROCS(0))) })
	return s.loops.all
}

// loopsWanted is how many there are to be with so many processors: one for each, but for
// a proxy, which is a guest on a machine that others work on. Requests that share a
// loop go upstream together, and replies need not wake another one: that costs a
// request a quarter less, and one loop has enough for a machine of some processors.
func (s *Server) loopsWanted(processors int) int {
	switch u := s.cfg.Upstream; {
	case u == nil:
		return processors
	case u.Loops > 0:
		return u.Loops
	}
	return max(1, processors/4)
}

// adopt gives a plain TCP or unix connection that was admitted to an event loop,
// with input that has come already. It tells whether there is one that takes it.
func (s *Server) adopt(c net.Conn, t Transport, early []byte) bool {
	whole := c
	if p, ok := c.(*proxied); ok { // its header has been read, and perhaps more, which is behind early
		early = append(early, p.rest...)
		c = p.Conn
	}
	switch c.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return false
	}
	if len(s.startedLoops()) == 0 {
		return false
	}
	fd, err := duplicate(c.(syscall.Conn))
	if err != nil {
		return false
	}
	l, late := s.enlist(nil, false)
	if l == nil { // the server is shutting down
		syscall.Close(fd)
		return false
	}
	addr := address(whole, t)
	// Go's own handle on the socket goes; the socket stays with the loop.
	c.Close()
	l.post(task{fd: fd, transport: t, addr: addr, early: early, late: late})
	return true
}

// enlist chooses a loop for a connection and counts it in, unless the server
// is shutting down: the given one if it stays there, else the one that has
// fewest, and of several the given one.
func (s *Server) enlist(by *loop, stays bool) (l *loop, late bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late, ok := s.enterLocked()
	if !ok {
		return nil, false
	}
	all := s.loops.all
	if by == nil {
		s.loops.next++
		by = all[s.loops.next%uint32(len(all))]
	}
	for _, l := range all {
		if !stays && l.load < by.load {
			by = l
		}
	}
	by.load++
	return by, late
}

// unlist counts a connection out.
func (s *Server) unlist(l *loop, late bool) {
	s.mu.Lock()
	l.load--
	s.leaveLocked(late)
	s.mu.Unlock()
}

// duplicate returns a second descriptor of a connection, non-blocking like
// the first.
func duplicate(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dup uintptr
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		dup, _, errno = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil {
		return 0, err
	}
	if errno != 0 {
		return 0, errno
	}
	return int(dup), nil
}

func (s *Server) startLoops(n int) {
	s.loops.descriptors.grow(firstRoom)
	var all []*loop
	for i := range n {
		l, err := newLoop(s, i)
		if err != nil {
			s.cfg.Logger.Warn("cannot make an event loop, connections get a goroutine each", "err", err)
			for _, l := range all {
				l.post(task{what: endLoop})
			}
			return
		}
		all = append(all, l)
		go l.run()
	}
	s.loops.all = all
	s.loops.running.Store(&all)
}

func (s *Server) tellLoops(what order) {
	s.loops.start.Do(func() {}) // none is started any more
	for _, l := range s.loops.all {
		l.post(task{what: what})
	}
}

func (s *Server) drainLoops() { s.tellLoops(drainLoop) }
func (s *Server) cutLoops()   { s.tellLoops(cutLoop) }

// endLoops ends the loops, whose connections have all ended, and waits for
// that.
func (s *Server) endLoops() {
	s.tellLoops(endLoop)
	for _, l := range s.loops.all {
		<-l.ended
	}
}

// A loop serves many connections from one goroutine: it waits until any of
// them can be read from or written to, and moves bytes between it and its
// session.
//
// It waits for its epoll instance through Go's netpoller, which can watch one
// epoll instance from within another, so that a waiting loop blocks no thread;
// then it takes the events without waiting until there are none, with raw
// system calls, as none of them blocks. Buffers belong to the loop: a
// connection has none of its own while nothing of it is pending.
//
// All turns are bounded: a connection that has more input, a long reply to
// give out or many locks to release gets its next turn when the others had
// theirs.
type loop struct {
	server  *Server
	traffic *traffic
	shared  session.Turn // what the clients share in a turn
	epoll   int
	file    *os.File // of epoll, for the netpoller
	wake    int      // eventfd: there are tasks
	ended   chan struct{}
	load    int // connections; guarded by roster.mu

	calling atomic.Pointer[client] // whom the last system call is about that takes a socket for itself

	mu      sync.Mutex // guards what follows
	tasks   []task
	attends bool // it does them without being woken
	closed  bool // wake is no eventfd of ours any more

	// The rest is the loop's goroutine's own.
	clients    []*client // by place; nil: free
	places     []uint32  // free ones
	serial     int32
	busy       []*client   // to get another turn without an event
	ending     int         // clients whose sessions take more than one turn to close
	acceptors  []*acceptor // by place; nil: free
	asked      *rounds     // to catch up; nil: not asked
	askedTurns int         // since then
	unwatched  rarely
	sweep      sweep
	zones      zones
	peer       syscall.RawSockaddrAny                                          // of the connection that was accepted last
	accept     func(fd int, peer *syscall.RawSockaddrAny) (int, syscall.Errno) // accept4
	spare      []task                                                          // room for tasks
	draining   bool
	cut        bool // the connections are cut off
	over       bool
	in         []byte
	out        []byte
	events     [maxEvents]syscall.EpollEvent
}

const (
	maxEvents = 256
	// turnBytes is how much is read from a connection in one turn.
	turnBytes = 16 << 10
)

// A task is something for a loop to do that comes from another goroutine.
type task struct {
	what      order
	fd        int
	transport Transport
	addr      session.Address
	early     []byte
	late      bool // the connection has come while the server drained
	client    *client
	why       error // it is ended
	acceptor  *acceptor
	uplink    *uplink
	rounds    *rounds
	answer    chan struct{}
}

type order uint8

const (
	takeClient     order = iota // serve the connection fd
	wakeClient                  // a wait of client is over
	endClient                   // whatever it does
	wantClient                  // somebody wants what client holds
	sweepLoop                   // look which clients are dead
	endParting                  // client has had its time to close its side
	openAcceptor                // accept from acceptor
	forgetAcceptor              // acceptor is closed
	askLoop                     // catch up
	answerLoop                  // close answer
	drainLoop                   // end the connections that hold nothing, then the others
	cutLoop                     // end all connections
	takeUplink                  // serve it
	endLoop
)

func newLoop(s *Server, number int) (*loop, error) {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wake, err := eventfd()
	if err != nil {
		syscall.Close(epoll)
		return nil, err
	}
	l := &loop{
		server: s, traffic: s.trafficOf(uint64(number)), epoll: epoll, wake: wake,
		ended:  make(chan struct{}),
		in:     make([]byte, turnBytes),
		out:    make([]byte, 0, turnBytes),
		accept: accept4,
	}
	ev := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: wakePlace}
	err = os.NewSyscallError("epoll_ctl", syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, wake, &ev))
	if err == nil { // os.NewFile gives only non-blocking files to the netpoller
		err = os.NewSyscallError("fcntl", syscall.SetNonblock(epoll, true))
	}
	if err != nil {
		syscall.Close(epoll)
		syscall.Close(wake)
		return nil, err
	}
	l.file = os.NewFile(uintptr(epoll), "epoll")
	return l, nil
}

// wakePlace stands for the eventfd among the clients' places, acceptorPlace and what
// is below for the acceptors, uplinkPlace and what is above for the uplinks.
const (
	wakePlace     = -1
	acceptorPlace = -2
	uplinkPlace   = math.MinInt32
	mostUplinks   = 1 << 20
)

// post gives a loop a task, unless it has ended, and tells whether it has not.
func (l *loop) post(m task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.tasks = append(l.tasks, m); len(l.tasks) == 1 && !l.attends {
		signal(l.wake)
	}
	return true
}

func (l *loop) run() {
	defer close(l.ended)
	raw, err := l.file.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			began := time.Now()
			woke := began
			for n := 1; l.turn(); n++ {
				if n%4 != 0 && len(l.busy) == 0 {
					continue
				}
				now := time.Now()
				if now.Sub(began) > yieldEvery {
					signal(l.wake)
					return l.over
				}
				if now.Sub(woke) > wakeEvery {
					wakeProcessor()
					woke = now
				}
			}
			return l.over
		})
	}
	if err != nil {
		// It never happens that the netpoller refuses what it took before.
		l.server.cfg.Logger.Error("an event loop failed", "err", err)
	}
	l.mu.Lock()
	l.closed = true
	l.file.Close()
	syscall.Close(l.wake)
	tasks := l.tasks
	l.mu.Unlock()
	// Nobody is to wait for it.
	for _, a := range l.acceptors {
		if a != nil {
			a.end(net.ErrClosed)
		}
	}
	if l.asked != nil {
		l.asked.caughtUp()
	}
	for _, m := range tasks {
		switch m.what {
		case openAcceptor:
			m.acceptor.end(net.ErrClosed)
		case askLoop:
			m.rounds.caughtUp()
		case answerLoop:
			close(m.answer)
		}
	}
}

// wakeEvery is how long a loop is busy before it wakes a processor, and
// yieldEvery before it goes back to it by itself, having seen to it that it is
// woken at once: then whoever has no processor has this one, be it the only
// one, and the netpoller is watched.
const (
	wakeEvery  = 100 * time.Microsecond
	yieldEvery = time.Millisecond
)

// wakeProcessor makes Go's scheduler wake an idle processor, if there is one. While a
// loop is busy it does not come back to the scheduler, and the thread that it
// runs on may have been the one that watched the netpoller for all: then the
// other loops, and everybody else who waits there, would be noticed by the
// runtime's own look, every 10 ms, alone. A processor that wakes for a new
// goroutine and finds nothing more to do watches the netpoller.
func wakeProcessor() { go func() {}() }

// turn handles the events that are there and one turn of each busy client.
// It tells whether there was anything to do.
func (l *loop) turn() bool {
	asked := l.asked != nil
	n := epollWait(l.epoll, l.events[:])
	behind := n == len(l.events)
	busy := len(l.busy)
	l.shared.Begin(looksEach)
	// Who has closed a connection may ask for what it held over another one.
	for _, ev := range l.events[:n] {
		if ev.Events&hangUps != 0 {
			if c := l.clientOf(ev); c != nil {
				c.lastEvent(ev.Events)
				behind = behind || !c.ended && !c.hungUp // its end is behind what it has sent
			}
		}
	}
	for _, ev := range l.events[:n] {
		if c := l.clientOf(ev); c != nil {
			if ev.Events&hangUps == 0 {
				c.event(ev.Events)
			}
		} else if ev.Fd == wakePlace {
			l.readTasks()
		} else if ev.Fd < uplinkPlace+mostUplinks {
			if u := l.server.uplinks.at(int(ev.Fd - uplinkPlace)); u != nil {
				l.attend()
				u.event(ev)
				l.doTasks()
			}
		} else if a := l.acceptorOf(ev); a != nil {
			a.work()
			behind = true
		}
	}
	// Those that become busy from here on have their turn next time.
	for i := range busy {
		c := l.busy[i]
		c.queued = false
		c.work()
	}
	l.busy = slices.Delete(l.busy, 0, busy)
	l.server.uplinks.flush()
	if asked {
		l.answer(behind || l.ending > 0)
	}
	return !l.over && (n > 0 || len(l.busy) > 0 || l.asked != nil)
}

// hangUps are the events that tell of the end of a connection.
const hangUps = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR

// clientOf returns the client that an event is about, or nil if it is about
// something else or the client is gone.
func (l *loop) clientOf(ev syscall.EpollEvent) *client {
	if ev.Fd < 0 {
		return nil
	}
	if c := l.clients[ev.Fd]; c != nil && c.serial == ev.Pad {
		return c
	}
	return nil
}

// acceptorOf does the same for acceptors.
func (l *loop) acceptorOf(ev syscall.EpollEvent) *acceptor {
	if ev.Fd > acceptorPlace {
		return nil
	}
	return l.acceptors[acceptorPlace-ev.Fd]
}

// queue gives a client another turn, without an event.
func (l *loop) queue(c *client) {
	if !c.queued {
		c.queued = true
		l.busy = append(l.busy, c)
	}
}

func (l *loop) readTasks() {
	clearSignal(l.wake)
	l.doTasks()
}

// attend says that doTasks comes next, whoever has what for it until then: what comes from
// this goroutine needs no system calls.
func (l *loop) attend() {
	l.mu.Lock()
	l.attends = true
	l.mu.Unlock()
}

// mostSpare is the room for tasks that is kept.
const mostSpare = 1024

func (l *loop) doTasks() {
	l.mu.Lock()
	tasks := l.tasks
	l.tasks, l.spare, l.attends = l.spare, nil, false
	l.mu.Unlock()
	defer func() {
		if cap(tasks) <= mostSpare {
			clear(tasks)
			l.spare = tasks[:0]
		}
	}()
	for _, m := range tasks {
		switch m.what {
		case takeClient:
			l.take(m)
		case wakeClient:
			m.client.woken()
		case endClient:
			m.client.endFor(m.why)
		case wantClient:
			l.want(m.client)
		case sweepLoop:
			l.look()
		case endParting:
			m.client.endParting()
		case openAcceptor:
			m.acceptor.begin()
		case forgetAcceptor:
			m.acceptor.forget()
		case askLoop:
			l.asked = m.rounds
		case answerLoop:
			close(m.answer)
		case drainLoop:
			l.draining = true
			for _, c := range l.clients {
				if c != nil && c.parting == nil {
					c.woken()
				}
			}
		case cutLoop:
			l.cut = true
			for _, c := range l.clients {
				if c != nil && c.parting != nil {
					c.endParting()
				} else if c != nil && !c.ended {
					c.stream.EndsFor(session.WhyShutdown)
					c.end(false)
				}
			}
		case takeUplink:
			m.uplink.take(l, m.fd)
		case endLoop:
			l.over = true
		}
	}
}

// seat gives a connection a place.
func (l *loop) seat(fd int, t Transport) *client {
	l.serial++
	c := &client{loop: l, fd: int32(fd), serial: l.serial, transport: t}
	c.stream = &c.own
	if n := len(l.places); n > 0 {
		c.place = l.places[n-1]
		l.places = l.places[:n-1]
		l.clients[c.place] = c
	} else {
		c.place = uint32(len(l.clients))
		l.clients = append(l.clients, c)
	}
	return c
}

// take begins to serve a connection.
func (l *loop) take(m task) {
	c := l.seat(m.fd, m.transport)
	if c.late = m.late; m.late {
		c.stream.ComesLate()
	}
	l.server.reserve(c.stream)
	m.addr.Asks, m.addr.Transport = l.server.asks(m.transport, m.addr), m.transport.String()
	c.stream.Begin(l.server.hub, m.addr, c, &l.shared)
	l.server.meet(c.stream, c, m.addr.Asks)
	if m.transport == WebSocket {
		c.frames = newFrames(l.server, c.stream)
		l.beginSweep()
	}
	l.server.logConnected(c.stream, m.transport)
	if err := c.watch(listening); err != nil {
		c.unwatched(err)
		return
	}
	switch {
	case l.cut: // it comes after the order to cut it off, and holds nothing
		c.end(false)
	case len(m.early) > 0:
		c.advance(m.early, true)
	case l.draining:
		c.goOn()
	}
}

// free gives back the place of a client whose connection is gone.
func (l *loop) free(c *client) {
	l.clients[c.place] = nil
	l.places = append(l.places, c.place)
	l.server.unlist(l, c.late)
}
