package session

import "github.com/nylen/lockd/internal/wire"

func init() {
	// Set here since `q` reads the table that it is a row of.
	const (
		dumps = needsDump | counted | alwaysListed
		looks = locker | reader
	)
	commands = []command{
		{verb: wire.Get, rest: aName, flags: alwaysListed | ofName | takes, roles: locker, do: (*Session).textGet, help: "acquire an exclusive lock"},
		{verb: wire.Release, rest: aName, flags: alwaysListed | ofName, roles: locker, do: (*Session).textRelease, help: "release an exclusive lock"},
		{verb: wire.Inspect, rest: aName, flags: alwaysListed | ofName, roles: looks, do: (*Session).textInspect, help: "ask whether an exclusive lock is held"},
		{verb: wire.GetShared, rest: aName, flags: alwaysListed | ofName | takes, roles: locker, do: (*Session).textGetShared, help: "acquire a shared lock and count its holders"},
		{verb: wire.ReleaseShared, rest: aName, flags: alwaysListed | ofName, roles: locker, do: (*Session).textReleaseShared, help: "release a shared lock"},
		{verb: wire.InspectShared, rest: aName, flags: alwaysListed | ofName, roles: looks, do: (*Session).textInspectShared, help: "count a shared lock's holders"},
		{verb: wire.Dump, rest: maybeName, flags: dumps | lists | maybeNothing | ofName, roles: reader, do: (*Session).textDump, help: "list exclusive locks and their holders' names"},
		{verb: wire.DumpShared, rest: maybeName, flags: dumps | lists | maybeNothing | ofName, roles: reader, do: (*Session).textDumpShared, help: "list shared locks and their holders' names"},
		{verb: wire.DumpMap, rest: "[shared]", flags: dumps, roles: reader, do: (*Session).textDumpMap, help: "show all locks and their holders' addresses on one line"},
		{verb: wire.Me, flags: counted | ofSelf, roles: looks, do: (*Session).textMe, help: "show this connection's address and name"},
		{verb: wire.IAm, rest: aName, flags: needsRegistry | counted | ofSelf, roles: locker, do: (*Session).textIAm, help: "register a name for this connection"},
		{verb: wire.Who, rest: maybeName, flags: lists | maybeNothing | needsDump | needsRegistry | counted, roles: reader, do: (*Session).textWho, help: "list registered names"},
		{verb: wire.Look, rest: aName, flags: lists | needsDump | counted | ofName, roles: looks, do: (*Session).textLook, help: "show who holds and who waits for all that has a name"},
		{verb: wire.LookAll, rest: "PREFIX", flags: lists | needsDump | counted | ofName, roles: reader, do: (*Session).textLookAll, help: "the same for every name that begins so"},
		{verb: wire.Top, args: []argument{count}, rest: "[ORDER]", flags: lists | needsDump | counted, roles: reader, do: (*Session).textTop, help: "list the locks that stand out: by queue, oldest or busiest"},
		{verb: wire.Clients, args: []argument{count}, rest: "[ORDER]", flags: lists | needsDump | counted, roles: reader, do: (*Session).textClients, help: "list clients: by locks, waits, bytes or oldest"},
		{verb: wire.Stats, flags: lists | counted, roles: reader, do: (*Session).textStats, help: "show how the server is, in numbers"},
		{verb: wire.Losses, args: []argument{many}, rest: maybeName, flags: lists | needsDump | counted | ofName | leavesOut, roles: reader, do: (*Session).textLosses, help: "show what was lost, and why, the latest first"},
		{verb: wire.Kick, rest: "ADDR", flags: counted, roles: adminOnly, do: (*Session).textKick, help: "end another client's connection"},
		{verb: wire.GetWait, args: []argument{patience}, rest: aName, flags: counted | mayWait | ofName | takes, roles: locker, do: (*Session).textGetWait, help: "acquire an exclusive lock, waiting for it"},
		{verb: wire.GetSharedLimit, args: []argument{limit}, rest: aName, flags: counted | ofName | takes, roles: locker, do: (*Session).textGetSharedLimit, help: "acquire a shared lock while fewer than a limit hold it"},
		{verb: wire.GetSharedWait, args: []argument{limit, patience}, rest: aName, flags: counted | mayWait | ofName | takes, roles: locker, do: (*Session).textGetSharedWait, help: "the same, waiting for it"},
		{verb: wire.TakeRate, args: []argument{limit, window, units}, rest: aName, flags: counted | ofName | takes, roles: locker, do: (*Session).textTakeRate, help: "take units of a rate"},
		{verb: wire.InspectRate, args: []argument{limit, window}, rest: aName, flags: counted | ofName, roles: looks, do: (*Session).textInspectRate, help: "ask how many units of a rate are open"},
		{verb: wire.DropRate, rest: aName, flags: counted | ofName, roles: adminOnly, do: (*Session).textDropRate, help: "drop a rate, so that all its units are open"},
		{verb: wire.Token, rest: aName, flags: counted | ofName, roles: locker, do: (*Session).textToken, help: "show the fencing token of a lock held"},
		{verb: wire.Ping, flags: counted, roles: anybody, do: (*Session).textPing, help: "ask whether the server is there"},
		{verb: wire.Limits, flags: counted, roles: anybody, do: (*Session).textLimits, help: "show how long a client may be silent"},
		{verb: wire.Auth, rest: "TOKEN", flags: counted, roles: anybody, do: (*Session).textAuth, help: "present a token"},
		{verb: wire.Hello, args: []argument{protocol}, flags: counted | bare, roles: anybody, do: (*Session).textHello, help: "begin protocol 2"},
		{verb: wire.Cancel, flags: counted | onlySessions | endsWait | ofSelf, roles: locker, do: (*Session).textCancel, help: "stop waiting"},
		{verb: wire.Quit, flags: counted | endsWait, roles: anybody, do: (*Session).textQuit, help: "end the connection, or the session"},
		{verb: wire.Query, flags: lists | counted | alwaysListed, roles: reader, do: (*Session).textQuery, help: "show counters"},
	}
	for i := range commands {
		c := &commands[i]
		c.number = i
		byLetter[c.verb[0]] = append(byLetter[c.verb[0]], c)
	}
}
