package session

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A model client does what one that is kept has to: it believes in what it holds until a
// deadline of its own, which counts from what it has sent, claims all of that when it is
// back, and asks again for what had no reply.
type modelClient struct {
	w    *keptWorld
	name string
	conn *keptClient // nil: it has no connection
	key  string      // "": it is not kept

	deadline time.Time
	open     bool // its claims are, and nothing moves the deadline

	holds   map[modelHold]uint64 // that it believes in, with the tokens
	pending map[uint32]string    // requests without a reply, by session
}

type modelHold struct {
	session uint32
	shared  bool
	name    string
}

func (h modelHold) String() string { return fmt.Sprintf("%d %v %s", h.session, h.shared, h.name) }

const (
	modelK        = 10 * time.Second
	modelClients  = 3
	modelSessions = 2
	modelNames    = 2
)

// A keptWorld is a server and such clients, in a time of its own.
type keptWorld struct {
	t       *testing.T
	hub     *Hub
	store   *memStore // nil: blips only
	clients []*modelClient
	dials   int
	steps   []string
}

func (w *keptWorld) fatal(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf(format+"\nafter\n%s", append(args, strings.Join(w.steps, "\n"))...)
}

func (w *keptWorld) begin() {
	cfg := testConfig()
	cfg.Shards = 2
	cfg.MaxKeep = modelK
	if w.store != nil {
		cfg.Store = w.store
		keys, floor := w.store.stored()
		cfg.Floor = floor
		if len(keys) > 0 {
			cfg.Recovery = &Recovery{Began: time.Now(), Keys: keys}
		}
	}
	w.hub = NewHub(cfg, keptNetwork{})
}

// restart has the server crash and begin again.
func (w *keptWorld) restart() {
	var all []*keptClient
	for _, c := range w.clients {
		if c.conn != nil {
			all = append(all, c.conn)
		}
		c.conn = nil
		if c.key == "" || w.store == nil {
			c.giveUp()
		}
	}
	crash(w.hub, all...)
	w.hub.Close()
	w.begin()
}

// say sends a line and takes all that comes, now or soon.
func (c *modelClient) say(line string) []string {
	sent := time.Now()
	out := c.conn.sayAll(line, 0)
	if strings.HasSuffix(out, "<end>") {
		c.cut()
	}
	lines := slices.Collect(strings.Lines(strings.TrimSuffix(out, "<end>")))
	for _, l := range lines {
		c.heard(strings.TrimSuffix(l, "\n"))
	}
	if len(lines) > 0 && line != "" && !c.open {
		c.deadline = sent.Add(modelK * 95 / 100)
	}
	return lines
}

// heard takes a reply to a request about a lock.
func (c *modelClient) heard(line string) {
	words := strings.SplitN(line, " ", 3)
	if len(words) < 3 {
		c.w.fatal("%s hears %q", c.name, line)
	}
	session, _ := strconv.ParseUint(words[0], 10, 32)
	n := uint32(session)
	token, _ := strconv.ParseUint(words[1], 10, 64)
	_, name, _ := strings.Cut(words[2], ": ")
	hold := modelHold{n, strings.HasPrefix(words[2], "Shared"), name}
	switch {
	case strings.Contains(words[2], "Get") || strings.HasPrefix(words[2], "Server Recovering"):
		delete(c.pending, n)
		if token > 0 {
			if had, ok := c.holds[hold]; ok && !hold.shared && had != token {
				c.w.fatal("%s holds %v with token %d, and gets it with %d", c.name, hold, had, token)
			}
			c.holds[hold] = token
		}
	case strings.Contains(words[2], "Release"):
		delete(c.pending, n)
		delete(c.holds, hold)
	}
}

// ask asks for something on a session that does nothing else. If the reply is to be
// lost, the connection is lost with it.
func (c *modelClient) ask(n uint32, request string, lost bool) {
	if c.conn == nil || c.pending[n] != "" {
		return
	}
	verb, name, _ := strings.Cut(request, " ")
	hold := modelHold{n, verb == "sr", name}
	if verb == "r" || verb == "sr" { // it is not claimed from here on
		delete(c.holds, hold)
	}
	c.pending[n] = request
	line := fmt.Sprintf("%d %s", n, request)
	if lost {
		c.conn.sayAll(line, 0)
		c.cut()
		return
	}
	c.say(line)
}

// cut ends the connection.
func (c *modelClient) cut() {
	if c.conn == nil {
		return
	}
	c.conn.end()
	c.conn = nil
	if c.key == "" {
		c.giveUp()
	}
}

// giveUp is final.
func (c *modelClient) giveUp() {
	if c.conn != nil {
		c.conn.end()
		c.conn = nil
	}
	clear(c.holds)
	clear(c.pending)
	c.key, c.open = "", false
}

// late gives up where the deadline is over.
func (c *modelClient) late() {
	if c.key != "" && !time.Now().Before(c.deadline) {
		c.giveUp()
	}
}

// connect connects, and comes back to what it has.
func (c *modelClient) connect(kept bool) {
	if c.conn != nil {
		return
	}
	w := c.w
	w.dials++
	c.conn = dialKept(w.t, w.hub, fmt.Sprint(c.name, "-", w.dials))
	if c.key == "" {
		if kept {
			sent := time.Now()
			c.key = c.conn.key(strconv.Itoa(int(modelK / time.Millisecond)))
			c.deadline = sent.Add(modelK * 95 / 100)
		}
		return
	}
	sent := time.Now()
	reply := c.conn.say("0 resume " + c.key)
	switch {
	case strings.HasPrefix(reply, "0 0 Claims Open "):
		ms, _ := strconv.Atoi(strings.TrimSuffix(strings.Fields(reply)[4], ":"))
		if d := sent.Add(time.Duration(ms) * time.Millisecond * 95 / 100); d.After(c.deadline) {
			c.deadline = d
		}
		c.open = true
	case strings.Contains(reply, "Resumed: "):
		if !c.open {
			c.deadline = sent.Add(modelK * 95 / 100)
		}
	default:
		w.fatal("%s is told %q, %v before its deadline", c.name, reply, time.Until(c.deadline))
	}
	for _, hold := range slices.SortedFunc(maps.Keys(c.holds), func(a, b modelHold) int { return strings.Compare(a.String(), b.String()) }) {
		request := fmt.Sprintf("%d claim %d %s", hold.session, c.holds[hold], hold.name)
		if hold.shared {
			request = fmt.Sprintf("%d claims 1 %s", hold.session, hold.name)
		}
		if got := c.conn.say(request); !strings.Contains(got, "Claim Success: ") {
			w.fatal("%s: %q is answered %q, %v before its deadline", c.name, request, got, time.Until(c.deadline))
		}
	}
	for _, n := range slices.Sorted(maps.Keys(c.pending)) {
		request := c.pending[n]
		if strings.HasPrefix(request, "r ") || strings.HasPrefix(request, "sr ") {
			// It is not claimed, so it is free soon.
			delete(c.pending, n)
			continue
		}
		c.say(fmt.Sprintf("%d %s", n, request))
	}
	if got := c.conn.sayAll("0 claimed", 1); !strings.Contains(got, "0 1 ok\n") {
		w.fatal("%s: claimed is answered %q", c.name, got)
	} else {
		for l := range strings.Lines(got) {
			if l != "0 1 ok\n" {
				c.heard(strings.TrimSuffix(l, "\n"))
			}
		}
	}
	c.open = false
	if d := sent.Add(modelK * 95 / 100); d.After(c.deadline) {
		c.deadline = d
	}
}

// check looks whether what clients believe is true, and nobody else believes the same.
func (w *keptWorld) check() {
	believed := make(map[string]string)
	for _, c := range w.clients {
		c.late()
		for hold, token := range c.holds {
			if !hold.shared {
				if other := believed[hold.name]; other != "" {
					w.fatal("%s and %s believe that they hold %s", other, c.name, hold.name)
				}
				believed[hold.name] = c.name
			}
			if c.conn == nil {
				continue
			}
			c.conn.mu.Lock()
			s, _ := c.conn.st.session(hold.session)
			if hold.shared {
				if !w.hub.locks.Shares(&s.owner, []byte(hold.name)) {
					w.fatal("%s has lost %v", c.name, hold)
				}
			} else if got, ok := w.hub.locks.Token(&s.owner, []byte(hold.name)); !ok || got != token {
				w.fatal("%s has lost %v: %d, %v", c.name, hold, got, ok)
			}
			c.conn.mu.Unlock()
		}
	}
}

// step does what four bytes say.
func (w *keptWorld) step(b []byte) {
	c := w.clients[int(b[1])%len(w.clients)]
	n := 1 + uint32(b[2])%modelSessions
	name := fmt.Sprint("x", int(b[3])%modelNames)
	lost := b[2]&0x40 != 0
	note := func(what string) {
		w.steps = append(w.steps, fmt.Sprintf("%v %s: %s, session %d, lost %v", time.Now().Format("05.000"), c.name, what, n, lost))
	}
	c.late()
	switch b[0] % 12 {
	case 0, 1:
		note("g " + name)
		c.ask(n, "g "+name, lost)
	case 2, 3:
		note("gw " + name)
		c.ask(n, "gw 5000 "+name, lost)
	case 4:
		note("r " + name)
		c.ask(n, "r "+name, lost)
	case 5:
		note("sg " + name)
		c.ask(n, "sgw 2 5000 "+name, lost)
	case 6:
		note("sr " + name)
		c.ask(n, "sr "+name, lost)
	case 7:
		note("cut")
		c.cut()
	case 8:
		note("connect")
		c.connect(b[2]&0x80 == 0)
	case 9:
		d := modelK * time.Duration(b[3]) / 200
		note("sleep " + d.String())
		time.Sleep(d)
	case 10:
		if b[3]&7 == 0 {
			note("restart")
			w.restart()
		} else {
			note("bye")
			if c.conn != nil && c.conn.say("0 bye") != "" {
				c.giveUp()
			}
		}
	case 11:
		note("ping")
		if c.conn != nil {
			c.say("")
			if c.conn != nil {
				c.conn.say("0 ping")
			}
		}
	}
	// What waited may have been answered.
	for _, c := range w.clients {
		if c.conn != nil {
			c.say("")
		}
	}
	w.check()
}

// FuzzKept has clients that are kept, and others, do anything, with connections and
// replies that are lost, and servers that crash: nobody loses what it believes in, nobody
// else believes that it has the same, and nothing is left in the end.
func FuzzKept(f *testing.F) {
	for _, steps := range [][]byte{
		{8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 180, 8, 0, 0, 0},
		{8, 0, 0, 0, 8, 1, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 7, 1, 0, 0, 4, 0, 0, 0, 8, 1, 0, 0, 10, 1, 0, 8},
		{8, 0, 0, 0, 8, 1, 128, 0, 0, 0, 0, 0, 4, 0, 64, 0, 0, 1, 0, 0, 8, 0, 0, 0, 10, 0, 0, 0, 8, 0, 0, 0},
		{8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 1, 10, 0, 0, 0, 8, 1, 0, 0, 2, 1, 0, 0, 8, 0, 0, 0, 9, 0, 0, 100, 7, 0, 0, 0, 9, 0, 0, 255},
		{8, 0, 0, 0, 2, 0, 64, 0, 8, 1, 0, 0, 2, 1, 1, 0, 9, 0, 0, 250, 8, 0, 0, 0, 8, 1, 0, 0},
	} {
		f.Add(steps, true)
		f.Add(steps, false)
	}
	f.Fuzz(func(t *testing.T, steps []byte, stored bool) {
		steps = steps[:min(len(steps), 400)]
		synctest.Test(t, func(t *testing.T) {
			w := &keptWorld{t: t}
			if stored {
				w.store = new(memStore)
			}
			w.begin()
			for i := range modelClients {
				w.clients = append(w.clients, &modelClient{w: w, name: fmt.Sprint("c", i), holds: make(map[modelHold]uint64), pending: make(map[uint32]string)})
			}
			for b := range slices.Chunk(bytes.Clone(steps), 4) {
				if len(b) == 4 {
					w.step(b)
				}
			}
			for _, c := range w.clients {
				c.cut()
			}
			time.Sleep(2*modelK + time.Second)
			checkNobody(t, w.hub)
			if keys, _ := w.storedKeys(); keys != 0 {
				w.fatal("%d KEYs are left", keys)
			}
			w.hub.Close()
		})
	})
}

func (w *keptWorld) storedKeys() (n int, floor uint64) {
	if w.store == nil {
		return 0, 0
	}
	keys, floor := w.store.stored()
	return len(keys), floor
}
