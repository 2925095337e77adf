package session

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A mover is a session of a client that asks for one thing at a time, and knows what it holds.
type mover struct {
	c       *nodeClient
	number  int
	kept    bool
	held    map[string]string // by verb and name: the token, or nothing
	asked   string            // what is not answered; "": nothing is
	again   bool              // and is asked once more, over another connection
	claims  []string          // of what it holds, that are not answered
	history []string
}

func (m *mover) say(r *rand.Rand, names []string) {
	if m.asked != "" {
		return
	}
	switch n := r.IntN(8); {
	case n < 2 && len(m.held) > 0:
		m.release(r)
		return
	case n < 4:
		m.asked = "sgl 3 " + names[r.IntN(len(names))]
	case n < 5:
		m.asked = fmt.Sprint("sgw 3 ", r.IntN(100), " ", names[r.IntN(len(names))])
	case n < 6:
		m.asked = fmt.Sprint("gw ", r.IntN(100), " ", names[r.IntN(len(names))])
	default:
		m.asked = "g " + names[r.IntN(len(names))]
	}
	m.ask()
}

func (m *mover) ask() {
	m.again = false
	m.history = append(m.history, "> "+m.asked)
	m.c.feed(m.prefix() + m.asked + "\n")
}

// release has it release something that it holds.
func (m *mover) release(r *rand.Rand) {
	all := slices.Sorted(maps.Keys(m.held))
	of := all[r.IntN(len(all))]
	m.asked = map[byte]string{'g': "r ", 's': "sr "}[of[0]] + of[2:]
	delete(m.held, of)
	m.ask()
}

func (m *mover) has(name string) bool {
	_, exclusive := m.held["g "+name]
	_, shared := m.held["s "+name]
	return exclusive || shared
}

func (m *mover) prefix() string {
	if m.number == 0 && !m.kept {
		return ""
	}
	return fmt.Sprint(m.number, " ")
}

// hears takes a reply, and tells what is wrong with it.
func (m *mover) hears(line string) string {
	m.history = append(m.history, "< "+line)
	if len(m.claims) > 0 {
		name := m.claims[0][2:]
		if !strings.HasSuffix(line, ": "+name) || !strings.Contains(line, "Claim ") {
			return "that is no answer to the claim of " + name
		}
		if m.claims = m.claims[1:]; strings.HasPrefix(line, "0 ") || !strings.HasSuffix(line, " Claim Success: "+name) {
			return "its claim of " + name + " is not accepted"
		}
		return ""
	}
	asked := strings.Fields(m.asked)
	if len(asked) == 0 {
		return "it has not asked for anything"
	}
	name := asked[len(asked)-1]
	m.asked = ""
	if !strings.HasSuffix(line, ": "+name) {
		return "that is no answer"
	}
	got := !strings.HasPrefix(line, "0 ")
	switch asked[0] {
	case "g", "gw":
		token, _, _ := strings.Cut(line, " ")
		if before, held := m.held["g "+name]; held && (!got || before != token) {
			return "it holds that already, with token " + before
		}
		if got {
			m.held["g "+name] = token
		}
	case "sgl", "sgw":
		if _, held := m.held["s "+name]; held && !got {
			return "it has its part already"
		}
		if got {
			m.held["s "+name] = ""
		}
	case "r", "sr":
		if !got && !m.again {
			return "it has held that"
		}
	}
	return ""
}

// A roamer is a kept client that loses its connection now and then.
type roamer struct {
	*nodeClient
	key      string
	life     int
	sessions []*mover
}

// comes has it come back at a node: it claims what it holds, and asks once more for what it wants.
func (k *roamer) comes(to *testNode) string {
	if !k.closed {
		k.Close()
	}
	k.life++
	one := to.client(fmt.Sprint(k.carrier.name, "-", k.life))
	one.turn.Begin(0)
	_, out, next := one.Advance([]byte(fmt.Sprint("hello 2 notices\n0 resume ", k.key, " ", k.life, " 15000\n")), nil)
	if next == Moved {
		one.Stream = one.Successor()
	}
	for end := time.Now().Add(5 * time.Second); !strings.HasSuffix(string(out), ": "+k.key+"\n") && time.Now().Before(end); time.Sleep(time.Millisecond) {
		to.c.pump()
		one.feed("")
		out = append(out, one.got...)
		one.got = ""
	}
	if !strings.HasSuffix(string(out), ": "+k.key+"\n") || strings.Contains(string(out), "Unknown Key") {
		return fmt.Sprintf("its resume is answered %q", out)
	}
	k.nodeClient = one
	sent := ""
	for _, m := range k.sessions {
		m.c = one
		m.history = append(m.history, "resume at "+to.id)
		m.claims = nil
		for of, token := range m.held {
			m.claims = append(m.claims, of)
			if of[0] == 's' {
				sent += fmt.Sprint(m.number, " claims 1 ", of[2:], "\n")
			} else {
				sent += fmt.Sprint(m.number, " claim ", token, " ", of[2:], "\n")
			}
		}
		if m.asked != "" {
			m.again = true
			sent += m.prefix() + m.asked + "\n"
		}
	}
	one.feed(sent + "0 claimed\n")
	return ""
}

// Partitions move to and fro, and each node hears of it when it does: nobody loses anything by that.
func TestNodesMoveAtRandom(t *testing.T) {
	for seed := range uint64(10) {
		if !moveAtRandom(t, seed+1, false, false) {
			return
		}
	}
}

// The same while links break.
func TestNodesMoveAndBreak(t *testing.T) {
	for seed := range uint64(10) {
		if !moveAtRandom(t, seed+1, true, false) {
			return
		}
	}
}

// And while kept clients come back at any node: who does that in the middle of it all may lose something,
// but nobody else has it then.
func TestNodesMoveAndRoam(t *testing.T) {
	for seed := range uint64(15) {
		moveAtRandom(t, seed+1, false, true)
	}
}

func moveAtRandom(t *testing.T, seed uint64, breaks, roams bool) bool {
	c := newTestCluster(t, 3, time.Minute)
	r := rand.New(rand.NewPCG(seed, 0))
	var names []string
	for i, n := range c.nodes {
		names = append(names, c.name(n, i), c.name(n, i+10), c.name(n, i+20))
	}
	var all []*mover
	clients := map[*mover]*roamer{}
	var roamers []*roamer
	for i, n := range c.nodes {
		plain, kept := &roamer{nodeClient: n.client(fmt.Sprint("plain", i))}, &roamer{nodeClient: n.client(fmt.Sprint("kept", i)), life: 1}
		plain.feed("hello 2\n")
		plain.got = ""
		kept.key = kept.keepsFor(15 * time.Second) // no test takes longer
		roamers = append(roamers, kept)
		for s := range 3 {
			for _, one := range []*roamer{plain, kept} {
				m := &mover{c: one.nodeClient, number: s + 1, kept: true, held: map[string]string{}}
				all = append(all, m)
				one.sessions = append(one.sessions, m)
				clients[m] = one
			}
		}
	}
	wrong := func(m *mover, what string) bool {
		if roams && !strings.Contains(what, " hold ") && !strings.Contains(what, "that is no answer") {
			return false
		}
		t.Errorf("seed %d: %s#%d: %s: %q", seed, m.c.Address(), m.number, what, m.history[max(0, len(m.history)-12):])
		return false
	}
	// hear has a client take what there is, and its sessions hear it.
	hear := func(of *mover) bool {
		sessions, one := clients[of].sessions, of.c
		one.feed("")
		lines := strings.SplitAfter(one.got, "\n")
		one.got = ""
		for _, line := range lines {
			if line == "" {
				continue
			}
			var number int
			word, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			fmt.Sscan(word, &number)
			m := sessions[max(0, number-1)]
			if number == 0 && text == "1 ok" {
				continue // all is claimed
			}
			if _, lost, _ := strings.Cut(text, "! Lock Lost: "); lost != "" && !m.has(lost) {
				continue // what it is about to release
			}
			if strings.HasPrefix(text, "! ") || number == 0 {
				return wrong(m, "it is told "+line)
			}
			if what := m.hears(text); what != "" {
				return wrong(m, what)
			}
			for name := range m.held {
				holders := 0
				for _, other := range all {
					if _, has := other.held[name]; has {
						holders++
					}
				}
				if name[0] == 'g' && holders > 1 || holders > 3 {
					for _, other := range all {
						if _, has := other.held[name]; has && other != m {
							return wrong(other, fmt.Sprint(holders, " hold ", name, ", as does ", m.c.Address(), "#", m.number))
						}
					}
				}
			}
		}
		if one.n.network.has(one.carrier) {
			return wrong(of, "its connection is ended")
		}
		return true
	}
	moving := false
	// stir has a few things happen.
	stir := func() bool {
		for range r.IntN(12) {
			switch r.IntN(3) {
			case 0:
				all[r.IntN(len(all))].say(r, names)
			case 1:
				n := c.nodes[r.IntN(3)]
				if l := n.links[r.IntN(len(n.links))]; !l.ended.Load() {
					l.pump()
				}
			case 2:
				if !hear(all[r.IntN(len(all))]) {
					return false
				}
			}
		}
		if breaks && r.IntN(6) == 0 {
			i := r.IntN(3)
			c.nodes[i].breaks(c.nodes[(i+1+r.IntN(2))%3])
		}
		if roams && !moving && r.IntN(3) == 0 {
			k := roamers[r.IntN(len(roamers))]
			if !hear(k.sessions[0]) {
				return false
			}
			if what := k.comes(c.nodes[r.IntN(3)]); what != "" {
				return wrong(k.sessions[0], what)
			}
		}
		if r.IntN(4) == 0 {
			time.Sleep(time.Duration(r.IntN(8)) * time.Millisecond)
		}
		return true
	}
	for i := 0; i < 25; i++ {
		from, to := c.nodes[i%3], c.nodes[(i+1+r.IntN(2))%3]
		var parts []int
		for _, p := range c.owned(from) {
			if r.IntN(3) > 0 {
				parts = append(parts, p)
			}
		}
		moving = false
		for range 2 {
			if !stir() {
				return false
			}
		}
		if moving = true; !c.moveInPieces(r, from, to, parts, stir) {
			return false
		}
	}
	// In the end all of them hold what they believe in.
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		c.pump()
		waits := 0
		for _, m := range all {
			if !hear(m) {
				return false
			}
			if m.asked != "" {
				waits++
			}
		}
		if waits == 0 {
			break
		}
		if time.Now().After(end) {
			for _, m := range all {
				if m.asked != "" {
					return wrong(m, "it is not answered")
				}
			}
		}
	}
	for _, n := range c.nodes {
		if refused := n.hub.node.refused.Load(); refused > 0 && !roams {
			t.Errorf("seed %d: %d claims were refused", seed, refused)
		}
	}
	for _, m := range all {
		for of := range m.held {
			m.asked = map[byte]string{'g': "r ", 's': "sr "}[of[0]] + of[2:]
			m.again = false
			m.history = append(m.history, "> "+m.asked)
			m.c.feed(m.prefix() + m.asked + "\n")
			for end := time.Now().Add(10 * time.Second); m.asked != ""; time.Sleep(time.Millisecond) {
				c.pump()
				if !hear(m) {
					return false
				}
				if time.Now().After(end) {
					return wrong(m, "it is not answered")
				}
			}
		}
	}
	return !t.Failed()
}

// moveInPieces moves partitions, and nodes hear of it in any order, with time between.
func (c *testCluster) moveInPieces(r *rand.Rand, from, to *testNode, parts []int, stir func() bool) bool {
	c.t.Helper()
	if len(parts) == 0 {
		return true
	}
	ok := true
	if c.hands(from, to, parts, func() { ok = ok && stir() }); !ok {
		return false
	}
	for _, i := range r.Perm(len(c.nodes)) {
		c.tell(c.nodes[i])
		if !stir() {
			return false
		}
	}
	// The next move begins when all have the map, and no earlier.
	return true
}
