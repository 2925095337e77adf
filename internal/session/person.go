package session

import (
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// A person is who an owner of locks is, whichever way it comes: a session of a client that is
// kept, by the hash of its KEY, or a session of another node's, by that node. What it was
// before it came another way may be taken over: by a claim what it holds, by asking again
// its place in line.
type person struct {
	who    string // the hash of a KEY, in hexadecimal digits, or the first ID of a node's process
	number uint32 // of the session: the client's own, or the node's
}

// A described person is one as it is told to other nodes.
type described struct {
	person
	home       string // the first ID of the node's process that it is a client of
	generation uint64 // grows with each connection of a KEY; 0: it has no KEY
	newest     uint64 // by which the person has come since, as far as is known
}

// append appends it as a word.
func (d described) append(out []byte) []byte {
	out = append(append(out, d.who...), ':')
	out = append(strconv.AppendUint(out, uint64(d.number), 10), ':')
	out = append(strconv.AppendUint(out, d.generation, 10), ':')
	out = append(strconv.AppendUint(out, d.newest, 10), ':')
	return append(out, d.home...)
}

var errNobody = errors.New("it describes nobody")

func parsePerson(word string) (d described, err error) {
	parts := strings.Split(word, ":")
	if len(parts) != 5 || parts[0] == "" || parts[4] == "" {
		return d, errNobody
	}
	var numbers [3]uint64
	for i := range numbers {
		if numbers[i], err = strconv.ParseUint(parts[1+i], 10, 64); err != nil || i == 0 && numbers[i] > math.MaxUint32 {
			return d, errNobody
		}
	}
	return described{person{parts[0], uint32(numbers[0])}, parts[4], numbers[1], numbers[2]}, nil
}

// keyed describes a session of the node's own client that is kept.
func (n *node) keyed(k *keeping, s *Session) described {
	return described{person{hex.EncodeToString(k.key[:]), s.number}, n.origin(), k.generation, k.generation}
}

// appears notes who a session of the node's own client is, if that is kept.
func (s *Session) appears() {
	n, k := s.hub.node, s.stream.keeping.Load()
	if n == nil || k == nil || s.stream.door&linked != 0 {
		return
	}
	of := n.keyed(k, s)
	n.people.come(of, presence{id: s.peer.id})
	s.eachRemote(func(r *remote) { r.announce(of) })
}

// describe returns who an owner is that has something here.
func (n *node) describe(id uint32) (of described, ok bool) {
	if of, ok = n.people.by(id); ok {
		return of, true
	}
	p := n.hub.directory.peer(id)
	if p == nil {
		return of, false
	}
	s := p.session.Load()
	if s == nil {
		return of, false
	}
	if l := s.stream.link; l != nil {
		return described{person: person{l.from, s.number}, home: l.from}, true
	}
	self := n.origin()
	return described{person: person{self, n.guestOf(s).number}, home: self}, true
}

// earlier returns the IDs of those who the session was before it came this way, and tells whether
// it has not come another way since. Its own stream calls it.
func (s *Session) earlier() (ids []uint32, latest bool) {
	n := s.hub.node
	if n == nil || !n.people.some.Load() {
		return nil, true
	}
	of, ok := n.who(s)
	if !ok {
		return nil, true
	}
	return n.people.others(of, s.peer.id, nil)
}

// who returns who a session is, if anybody has asked before. Its own stream calls it.
func (n *node) who(s *Session) (of person, ok bool) {
	if of, ok := n.people.by(s.peer.id); ok {
		return of.person, true
	}
	switch {
	case s.stream.link != nil:
		return person{s.stream.link.from, s.number}, true
	case s.remote != nil:
		return person{n.origin(), s.remote.number}, true
	}
	return of, false
}

// A registered person is there by some owners: sessions of links, and stand-ins.
type registered struct {
	generation uint64 // the newest that was seen
	owners     []presence
}

// A presence is an owner that is of a person.
type presence struct {
	id         uint32
	generation uint64
	standIn    *standIn // nil: it is a session
}

// A standIn is a session for somebody who has not said yet that he is there: it has what was
// copied from the former owner of a partition.
type standIn struct {
	session *Session
	ghost   *ghost
}

// people are all persons that a node knows, but for those who are nobody else elsewhere.
type people struct {
	some atomic.Bool // there ever were

	mu   sync.Mutex // guards what follows
	all  map[person]*registered
	byID map[uint32]described
}

func (p *people) init() {
	p.all, p.byID = make(map[person]*registered), make(map[uint32]described)
}

// come notes that an owner is of a person.
func (p *people) come(of described, one presence) {
	p.some.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.all[of.person]
	if r == nil {
		r = &registered{}
		p.all[of.person] = r
	}
	one.generation = of.generation
	p.byID[one.id] = of
	if i := slices.IndexFunc(r.owners, func(other presence) bool { return other.id == one.id }); i >= 0 {
		r.owners[i] = one
	} else {
		r.owners = append(r.owners, one)
	}
	r.generation = max(r.generation, of.generation, of.newest)
}

// leave notes that it is not there any more.
func (p *people) leave(id uint32) {
	if !p.some.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of, ok := p.byID[id]
	if !ok {
		return
	}
	delete(p.byID, id)
	if r := p.all[of.person]; r != nil {
		r.owners = slices.DeleteFunc(r.owners, func(one presence) bool { return one.id == id })
		if len(r.owners) == 0 {
			delete(p.all, of.person)
		}
	}
}

// supersede tells whether the person that an owner is has come another way since.
func (p *people) supersede(id uint32) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	of, ok := p.byID[id]
	r := p.all[of.person]
	return ok && r != nil && r.generation > of.generation
}

// by returns who an owner is, if it is known.
func (p *people) by(id uint32) (of described, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if of, ok = p.byID[id]; ok {
		of.newest = p.all[of.person].generation
	}
	return of, ok
}

// others appends the IDs of those who an owner was before, and tells whether it is the latest.
func (p *people) others(of person, id uint32, into []uint32) (_ []uint32, latest bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.all[of]
	if r == nil {
		return into, true
	}
	generation := uint64(0)
	for _, one := range r.owners {
		if one.id == id {
			generation = one.generation
		}
	}
	for _, one := range r.owners {
		if one.id != id && one.generation <= generation {
			into = append(into, one.id)
		}
	}
	return into, generation >= r.generation
}

// standsIn returns a stand-in of a person for whom f says yes; nil: there is none.
func (p *people) standsIn(of person, f func(*standIn) bool) *standIn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.all[of]; r != nil {
		for _, one := range r.owners {
			if one.standIn != nil && f(one.standIn) {
				return one.standIn
			}
		}
	}
	return nil
}
