package conn

import (
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// A command is a row of the table of verbs.
type command struct {
	verb   string
	flags  flags
	do     func(s *Session, arg, out []byte) []byte
	help   string
	number int // its place in the table
}

type flags uint16

const (
	needsDump     flags = 1 << iota // answered `0 disabled` without dumps
	needsRegistry                   // answered `0 disabled` without a registry
	counted                         // counted in the session's tally: the shards do not count it
	alwaysListed                    // `q` lists it before its first use
	manyLines                       // its reply has a line for each thing, or none
	onlySessions                    // there is no such command in protocol 1
	endsWait                        // may be sent while the session waits
)

// maxCommands is the room in a tally.
const maxCommands = 32

// commands is the table of verbs, the most used ones first: lookup compares
// one after another.
var commands []command

func init() {
	// Set here since `q` reads the table that it is a row of.
	commands = []command{
		{"g", alwaysListed, (*Session).get, "acquire an exclusive lock", 0},
		{"r", alwaysListed, (*Session).release, "release an exclusive lock", 0},
		{"i", alwaysListed, (*Session).inspect, "ask whether an exclusive lock is held", 0},
		{"sg", alwaysListed, (*Session).getShared, "acquire a shared lock and count its holders", 0},
		{"sr", alwaysListed, (*Session).releaseShared, "release a shared lock", 0},
		{"si", alwaysListed, (*Session).inspectShared, "count a shared lock's holders", 0},
		{"d", needsDump | counted | alwaysListed | manyLines, (*Session).dump, "list exclusive locks and their holders' names", 0},
		{"sd", needsDump | counted | alwaysListed | manyLines, (*Session).dumpShared, "list shared locks and their holders' names", 0},
		{"dump", needsDump | counted | alwaysListed, (*Session).dumpMap, "show all locks and their holders' addresses on one line", 0},
		{"me", counted, (*Session).me, "show this connection's address and name", 0},
		{"iam", needsRegistry | counted, (*Session).iam, "register a name for this connection", 0},
		{"who", needsDump | needsRegistry | counted | manyLines, (*Session).who, "list registered names", 0},
		{"gw", counted, (*Session).getWait, "acquire an exclusive lock, waiting for it", 0},
		{"sgl", counted, (*Session).getSharedLimit, "acquire a shared lock while fewer than a limit hold it", 0},
		{"sgw", counted, (*Session).getSharedWait, "the same, waiting for it", 0},
		{"rl", counted, (*Session).takeRate, "take units of a rate", 0},
		{"ri", counted, (*Session).inspectRate, "ask how many units of a rate are open", 0},
		{"t", counted, (*Session).token, "show the fencing token of a lock held", 0},
		{"ping", counted, (*Session).ping, "ask whether the server is there", 0},
		{"auth", counted, (*Session).auth, "present a token", 0},
		{"hello", counted, (*Session).hello, "begin protocol 2", 0},
		{"cancel", counted | onlySessions | endsWait, (*Session).cancel, "stop waiting", 0},
		{"bye", counted | endsWait, (*Session).bye, "end the connection, or the session", 0},
		{"q", counted | alwaysListed | manyLines, (*Session).query, "show counters", 0},
	}
	for i := range commands {
		commands[i].number = i
	}
}

// lookup returns the row of a verb, or nil.
func lookup(verb []byte) *command {
	for i := range commands {
		if string(verb) == commands[i].verb {
			return &commands[i]
		}
	}
	return nil
}

// boolean replies with 1 or 0 and the text that goes with it.
func boolean(out []byte, ok bool, yes, no string, name []byte) []byte {
	if ok {
		return wire.AppendReply(out, 1, yes, name)
	}
	return wire.AppendReply(out, 0, no, name)
}

func (s *Session) get(name, out []byte) []byte {
	switch grant, outcome := s.hub.locks.Get(&s.owner, name); outcome {
	case shard.Acquired:
		return s.acquired(out, grant, name)
	case shard.Refused:
		return wire.AppendReply(out, 0, wire.GetFailure, name)
	default:
		return refused(out, outcome, name)
	}
}

func (s *Session) release(name, out []byte) []byte {
	return boolean(out, s.hub.locks.Release(&s.owner, name), wire.ReleaseSuccess, wire.ReleaseFailure, name)
}

func (s *Session) inspect(name, out []byte) []byte {
	return boolean(out, s.hub.locks.Inspect(name), wire.IsLocked, wire.NotLocked, name)
}

func (s *Session) getShared(name, out []byte) []byte {
	grant, outcome := s.hub.locks.GetShared(&s.owner, name)
	if outcome != shard.Acquired {
		return refused(out, outcome, name)
	}
	return wire.AppendReply(out, uint64(grant.Count), wire.SharedGetSuccess, name)
}

func (s *Session) releaseShared(name, out []byte) []byte {
	return boolean(out, s.hub.locks.ReleaseShared(&s.owner, name), wire.SharedReleaseSuccess, wire.SharedReleaseFailure, name)
}

func (s *Session) inspectShared(name, out []byte) []byte {
	if count := s.hub.locks.InspectShared(name); count > 0 {
		return wire.AppendReply(out, uint64(count), wire.SharedIsLocked, name)
	}
	return wire.AppendReply(out, 0, wire.SharedNotLocked, name)
}

func (s *Session) dump(name, out []byte) []byte {
	if len(name) == 0 {
		return s.list(&dumpListing{walk: s.hub.locks.Walk(shard.Exclusive)}, out)
	}
	if id := s.hub.locks.Holder(name); id != 0 {
		if holder, ok := s.hub.directory.holder(id); ok {
			return wire.AppendPair(out, name, holder)
		}
	}
	return out
}

func (s *Session) dumpShared(name, out []byte) []byte {
	if len(name) == 0 {
		return s.list(&dumpListing{walk: s.hub.locks.Walk(shard.Shared)}, out)
	}
	return s.list(&dumpListing{walk: s.hub.locks.WalkHolders(name)}, out)
}

// dumpMap answers `dump`. Like glockd, it takes any argument but "shared" for
// none.
func (s *Session) dumpMap(arg, out []byte) []byte {
	kind := shard.Exclusive
	if string(arg) == "shared" {
		kind = shard.Shared
	}
	if s.stream.multiplexed {
		out = append(out, "1 "...)
	}
	return s.list(newMapListing(s.hub, kind), out)
}

func (s *Session) me(_, out []byte) []byte {
	out = append(out, "1 "...)
	out = append(out, s.peer.addr...)
	out = append(out, ' ')
	out = append(out, s.hub.directory.registered(s.peer)...)
	return append(out, '\n')
}

func (s *Session) iam(name, out []byte) []byte {
	s.hub.directory.register(s.peer, string(name))
	return append(out, wire.OK...)
}

func (s *Session) who(name, out []byte) []byte {
	return s.list(&whoListing{only: string(name)}, out)
}

func (s *Session) query(_, out []byte) []byte { return s.list(countersListing{}, out) }

// list begins a reply that is given out in pieces.
func (s *Session) list(l listing, out []byte) []byte {
	s.stream.listing = l
	return out
}
