package session

import "github.com/nylen/lockd/internal/wire"

// A command is a row of the table of verbs.
type command struct {
	verb  string
	args  []argument // the numbers before the name
	rest  string     // what follows them, in the words of its help; empty: nothing
	flags flags
	roles Role // who may
	do    func(s *Session, name, out []byte) []byte
	help  string

	number int // its place in the table
}

// What follows the numbers most often.
const (
	aName     = "NAME"
	maybeName = "[NAME]"
)

type flags uint32

const (
	needsDump     flags = 1 << iota // answered `0 disabled` without dumps
	needsRegistry                   // answered `0 disabled` without a registry
	counted                         // counted by the stream: the shards do not count it
	alwaysListed                    // `q` lists it before its first use
	onlySessions                    // there is no such command in protocol 1
	mayWait                         // its reply may be a long time coming
	endsWait                        // may be sent while the session waits
	bare                            // nothing may follow its numbers
	lists                           // its reply has any number of lines
	maybeNothing                    // and in protocol 1 it may have none at all
	takes                           // a hold, a place in line or units: not while the server shuts down
	ofName                          // what follows is the name of a lock or a rate, or how some begin: an access with a prefix is for those
	leavesOut                       // without a name it is about all that are within the prefix
	forwarded                       // a proxy asks it upstream
	relayed                         // the same, with a reply of many lines, or one that takes its time
	ofSelf                          // it is about nobody but the client, whatever its access is for
)

// Who may: those who have one of these roles, besides administrators.
const (
	locker    = RoleLock
	reader    = RoleRead
	anybody   = ^Role(0) // who has not said who it is, too
	adminOnly = RoleAdmin
)

// An argument is a number.
type argument struct {
	word        string // in usages
	least, most uint64
	within      int // if not 0, it is at most the argument before it in this place, from 1 on
}

// numbers are the arguments of a request. While it is executed they are its
// stream's turn's.
type numbers struct{ a, b, c uint64 }

// The arguments that there are.
var (
	patience = argument{word: "MS", least: 0, most: wire.MaxWait} // milliseconds
	limit    = argument{word: "LIMIT", least: 1, most: wire.MaxLimit}
	window   = argument{word: "MS", least: 1, most: wire.MaxWait} // milliseconds
	many     = argument{word: "COUNT", least: 1, most: MostLosses}
	units    = argument{word: "COST", least: 0, most: wire.MaxLimit, within: 1}
	aToken   = argument{word: "TOKEN", least: 1, most: wire.MaxToken}
	weight   = argument{word: "WEIGHT", least: 1, most: 1}
	protocol = argument{word: "2", least: 2, most: 2}
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
const maxCommands = 48

// commands is the table of verbs, the most used ones first.
var commands []command // filled in table.go

// byLetter has the rows by the first byte of their verbs: lookup compares one
// after another.
var byLetter [256][]*command

// lookup returns the row of a verb, or nil.
func lookup(verb []byte) *command {
	if len(verb) == 0 {
		return nil
	}
	for _, c := range byLetter[verb[0]] {
		if string(verb) == c.verb {
			return c
		}
	}
	return nil
}
