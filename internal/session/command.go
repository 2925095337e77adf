package session

import "github.com/nylen/lockd/internal/wire"

// A command is a row of the table of verbs.
type command struct {
	verb  string
	args  []argument // the numbers before the name
	flags flags
	roles role // who may
	do    func(s *Session, name, out []byte, n numbers) []byte
	help  string

	number int // its place in the table
}

type flags uint8

const (
	needsDump     flags = 1 << iota // answered `0 disabled` without dumps
	needsRegistry                   // answered `0 disabled` without a registry
	counted                         // counted by the stream: the shards do not count it
	alwaysListed                    // `q` lists it before its first use
	onlySessions                    // there is no such command in protocol 1
	mayWait                         // its reply may be a long time coming
	endsWait                        // may be sent while the session waits
	bare                            // nothing may follow its numbers
)

// A role is what a client may be there for.
type role uint8

// The roles. A client has one of them; administrators may do everything.
const (
	locker    role = 1 << iota // takes and releases locks and rates
	reader                     // looks
	anybody        = ^role(0)  // who has not said who it is, too
	adminOnly role = 0
)

// An argument is a number.
type argument struct {
	least, most uint64
	within      int // if not 0, it is at most the argument before it in this place, from 1 on
}

// numbers are the arguments of a request.
type numbers struct{ a, b, c uint64 }

// The arguments that there are.
var (
	patience = argument{least: 0, most: wire.MaxWait} // milliseconds
	limit    = argument{least: 1, most: wire.MaxLimit}
	window   = argument{least: 1, most: wire.MaxWait} // milliseconds
	units    = argument{least: 0, most: wire.MaxLimit, within: 1}
	protocol = argument{least: 2, most: 2}
)

// parse takes the numbers off the front of arg. It tells whether all of them
// are there, each within its bounds.
func (c *command) parse(arg []byte) (n numbers, name []byte, ok bool) {
	into := [...]*uint64{&n.a, &n.b, &n.c}
	for i, a := range c.args {
		v, rest, ok := wire.Number(arg)
		if !ok || v < a.least || v > a.most || a.within > 0 && v > *into[a.within-1] {
			return n, nil, false
		}
		*into[i], arg = v, rest
	}
	return n, arg, c.flags&bare == 0 || len(arg) == 0
}

// maxCommands is the room in counters.
const maxCommands = 32

// commands is the table of verbs, the most used ones first: lookup compares
// one after another.
var commands []command

func init() {
	// Set here since `q` reads the table that it is a row of.
	const (
		dumps = needsDump | counted | alwaysListed
		looks = locker | reader
	)
	commands = []command{
		{verb: wire.Get, flags: alwaysListed, roles: locker, do: (*Session).textGet, help: "acquire an exclusive lock"},
		{verb: wire.Release, flags: alwaysListed, roles: locker, do: (*Session).textRelease, help: "release an exclusive lock"},
		{verb: wire.Inspect, flags: alwaysListed, roles: looks, do: (*Session).textInspect, help: "ask whether an exclusive lock is held"},
		{verb: wire.GetShared, flags: alwaysListed, roles: locker, do: (*Session).textGetShared, help: "acquire a shared lock and count its holders"},
		{verb: wire.ReleaseShared, flags: alwaysListed, roles: locker, do: (*Session).textReleaseShared, help: "release a shared lock"},
		{verb: wire.InspectShared, flags: alwaysListed, roles: looks, do: (*Session).textInspectShared, help: "count a shared lock's holders"},
		{verb: wire.Dump, flags: dumps, roles: reader, do: (*Session).textDump, help: "list exclusive locks and their holders' names"},
		{verb: wire.DumpShared, flags: dumps, roles: reader, do: (*Session).textDumpShared, help: "list shared locks and their holders' names"},
		{verb: wire.DumpMap, flags: dumps, roles: reader, do: (*Session).textDumpMap, help: "show all locks and their holders' addresses on one line"},
		{verb: wire.Me, flags: counted, roles: looks, do: (*Session).textMe, help: "show this connection's address and name"},
		{verb: wire.IAm, flags: needsRegistry | counted, roles: locker, do: (*Session).textIAm, help: "register a name for this connection"},
		{verb: wire.Who, flags: needsDump | needsRegistry | counted, roles: reader, do: (*Session).textWho, help: "list registered names"},
		{verb: wire.GetWait, args: []argument{patience}, flags: counted | mayWait, roles: locker, do: (*Session).textGetWait, help: "acquire an exclusive lock, waiting for it"},
		{verb: wire.GetSharedLimit, args: []argument{limit}, flags: counted, roles: locker, do: (*Session).textGetSharedLimit, help: "acquire a shared lock while fewer than a limit hold it"},
		{verb: wire.GetSharedWait, args: []argument{limit, patience}, flags: counted | mayWait, roles: locker, do: (*Session).textGetSharedWait, help: "the same, waiting for it"},
		{verb: wire.TakeRate, args: []argument{limit, window, units}, flags: counted, roles: locker, do: (*Session).textTakeRate, help: "take units of a rate"},
		{verb: wire.InspectRate, args: []argument{limit, window}, flags: counted, roles: looks, do: (*Session).textInspectRate, help: "ask how many units of a rate are open"},
		{verb: wire.Token, flags: counted, roles: locker, do: (*Session).textToken, help: "show the fencing token of a lock held"},
		{verb: wire.Ping, flags: counted, roles: anybody, do: (*Session).textPing, help: "ask whether the server is there"},
		{verb: wire.Auth, flags: counted, roles: anybody, do: (*Session).textAuth, help: "present a token"},
		{verb: wire.Hello, args: []argument{protocol}, flags: counted | bare, roles: anybody, do: (*Session).textHello, help: "begin protocol 2"},
		{verb: wire.Cancel, flags: counted | onlySessions | endsWait, roles: locker, do: (*Session).textCancel, help: "stop waiting"},
		{verb: wire.Quit, flags: counted | endsWait, roles: anybody, do: (*Session).textQuit, help: "end the connection, or the session"},
		{verb: wire.Query, flags: counted | alwaysListed, roles: reader, do: (*Session).textQuery, help: "show counters"},
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

// execute runs a command: what many of them need is looked at here, once.
func (s *Session) execute(c *command, arg, out []byte) []byte {
	st := s.stream
	if c.flags&counted != 0 {
		st.counters.commands[c.number].Add(1)
	}
	if c.flags&needsDump != 0 && s.hub.cfg.DisableDump || c.flags&needsRegistry != 0 && s.hub.cfg.DisableRegistry {
		return append(s.prefix(out), wire.Disabled...)
	}
	var n numbers
	if len(c.args) > 0 {
		var ok bool
		if n, arg, ok = c.parse(arg); !ok {
			return s.reply(out, 0, wire.InvalidArgument, []byte(c.verb))
		}
	}
	out = c.do(s, arg, out, n)
	if st.postponed != nil && st.postponed.command == nil {
		st.postponed.request(c, arg, n)
	}
	return out
}
