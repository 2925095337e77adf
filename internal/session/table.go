package session

import "github.com/nylen/lockd/internal/wire"

func init() {
	// Set here since `q` reads the table that it is a row of.
	const (
		dumps = needsDump | counted | alwaysListed
		looks = locker | reader
	)
	commands = []command{
		{verb: wire.Get, rest: aName, flags: forwarded | alwaysListed | ofName | takes, roles: locker, do: (*Session).textGet, help: "acquire an exclusive lock"},
		{verb: wire.Release, rest: aName, flags: forwarded | alwaysListed | ofName, roles: locker, do: (*Session).textRelease, help: "release an exclusive lock"},
		{verb: wire.Inspect, rest: aName, flags: forwarded | alwaysListed | ofName, roles: looks, do: (*Session).textInspect, help: "ask whether an exclusive lock is held"},
		{verb: wire.GetShared, rest: aName, flags: forwarded | alwaysListed | ofName | takes, roles: locker, do: (*Session).textGetShared, help: "acquire a shared lock and count its holders"},
		{verb: wire.ReleaseShared, rest: aName, flags: forwarded | alwaysListed | ofName, roles: locker, do: (*Session).textReleaseShared, help: "release a shared lock"},
		{verb: wire.InspectShared, rest: aName, flags: forwarded | alwaysListed | ofName, roles: looks, do: (*Session).textInspectShared, help: "count a shared lock's holders"},
		{verb: wire.Dump, rest: maybeName, flags: relayed | dumps | lists | maybeNothing | ofName, roles: reader, do: (*Session).textDump, help: "list exclusive locks and their holders' names"},
		{verb: wire.DumpShared, rest: maybeName, flags: relayed | dumps | lists | maybeNothing | ofName, roles: reader, do: (*Session).textDumpShared, help: "list shared locks and their holders' names"},
		{verb: wire.DumpMap, rest: "[shared]", flags: relayed | dumps, roles: reader, do: (*Session).textDumpMap, help: "show all locks and their holders' addresses on one line"},
		{verb: wire.Me, flags: counted | ofSelf, roles: looks, do: (*Session).textMe, help: "show this connection's address and name"},
		{verb: wire.IAm, rest: aName, flags: needsRegistry | counted | ofSelf, roles: locker, do: (*Session).textIAm, help: "register a name for this connection"},
		{verb: wire.Who, rest: maybeName, flags: relayed | lists | maybeNothing | needsDump | needsRegistry | counted, roles: reader, do: (*Session).textWho, help: "list registered names"},
		{verb: wire.Look, rest: aName, flags: relayed | lists | needsDump | counted | ofName, roles: looks, do: (*Session).textLook, help: "show who holds and who waits for all that has a name"},
		{verb: wire.LookAll, rest: "PREFIX", flags: relayed | lists | needsDump | counted | ofName, roles: reader, do: (*Session).textLookAll, help: "the same for every name that begins so"},
		{verb: wire.Top, args: []argument{count}, rest: "[ORDER]", flags: lists | needsDump | counted, roles: reader, do: (*Session).textTop, help: "list the locks that stand out: by queue, oldest or busiest"},
		{verb: wire.Clients, args: []argument{count}, rest: "[ORDER]", flags: lists | needsDump | counted, roles: reader, do: (*Session).textClients, help: "list clients: by locks, waits, bytes or oldest"},
		{verb: wire.Stats, flags: lists | counted, roles: reader, do: (*Session).textStats, help: "show how the server is, in numbers"},
		{verb: wire.Map, flags: lists | counted | ofSelf, roles: looks, do: (*Session).textMap, help: "show which node of the cluster serves what"},
		{verb: wire.Losses, args: []argument{many}, rest: maybeName, flags: relayed | lists | needsDump | counted | ofName | leavesOut, roles: reader, do: (*Session).textLosses, help: "show what was lost, and why, the latest first"},
		{verb: wire.Kick, rest: "ADDR", flags: relayed | counted, roles: adminOnly, do: (*Session).textKick, help: "end another client's connection"},
		{verb: wire.GetWait, args: []argument{patience}, rest: aName, flags: forwarded | counted | mayWait | ofName | takes, roles: locker, do: (*Session).textGetWait, help: "acquire an exclusive lock, waiting for it"},
		{verb: wire.GetSharedLimit, args: []argument{limit}, rest: aName, flags: forwarded | counted | ofName | takes, roles: locker, do: (*Session).textGetSharedLimit, help: "acquire a shared lock while fewer than a limit hold it"},
		{verb: wire.GetSharedWait, args: []argument{limit, patience}, rest: aName, flags: forwarded | counted | mayWait | ofName | takes, roles: locker, do: (*Session).textGetSharedWait, help: "the same, waiting for it"},
		{verb: wire.TakeRate, args: []argument{limit, window, units}, rest: aName, flags: forwarded | counted | ofName | takes, roles: locker, do: (*Session).textTakeRate, help: "take units of a rate"},
		{verb: wire.InspectRate, args: []argument{limit, window}, rest: aName, flags: forwarded | counted | ofName, roles: looks, do: (*Session).textInspectRate, help: "ask how many units of a rate are open"},
		{verb: wire.DropRate, rest: aName, flags: forwarded | counted | ofName, roles: adminOnly, do: (*Session).textDropRate, help: "drop a rate, so that all its units are open"},
		{verb: wire.Token, rest: aName, flags: forwarded | counted | ofName, roles: locker, do: (*Session).textToken, help: "show the fencing token of a lock held"},
		{verb: wire.Ping, flags: counted, roles: anybody, do: (*Session).textPing, help: "ask whether the server is there"},
		{verb: wire.Limits, flags: counted, roles: anybody, do: (*Session).textLimits, help: "show how long a client may be silent"},
		{verb: wire.Auth, rest: "TOKEN", flags: counted, roles: anybody, do: (*Session).textAuth, help: "present a token"},
		{verb: wire.Hello, args: []argument{protocol}, rest: "[notices]", flags: counted, roles: anybody, do: (*Session).textHello, help: "begin protocol 2"},
		{verb: wire.Keep, args: []argument{window}, flags: counted | onlySessions | bare | ofSelf, roles: locker, do: (*Session).textKeep, help: "have all outlive the connection for a time"},
		{verb: wire.Resume, rest: "KEY [N MS]", flags: counted | onlySessions | ofSelf, roles: locker, do: (*Session).textResume, help: "take up what was kept"},
		{verb: wire.Claim, args: []argument{aToken}, rest: aName, flags: counted | onlySessions | ofName, roles: locker, do: (*Session).textClaim, help: "say that an exclusive lock is held"},
		{verb: wire.Claims, args: []argument{weight}, rest: aName, flags: counted | onlySessions | ofName, roles: locker, do: (*Session).textClaims, help: "say that a shared lock is held"},
		{verb: wire.Claimed, flags: counted | onlySessions | ofSelf, roles: locker, do: (*Session).textClaimed, help: "say that all is claimed"},
		{verb: wire.Link, rest: "WORLD FROM TO", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textLink, help: "be another node of the cluster"},
		{verb: wire.Peer, rest: "ADDR", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textPeer, help: "say at which address another node's client is"},
		{verb: wire.As, rest: "PERSON", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textAs, help: "say who a client is that may come another way"},
		{verb: wire.Copy, rest: "NONCE PARTITION EPOCH HIGHEST", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textCopy, help: "begin to copy a partition"},
		{verb: wire.Put, rest: "RECORD", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textPut, help: "copy something that it has"},
		{verb: wire.Copied, rest: "NONCE COUNT", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textCopied, help: "end the copy"},
		{verb: wire.Followed, rest: "VERSION", flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textFollowed, help: "say that all is claimed by that map"},
		{verb: wire.GoOn, flags: counted | onlySessions | ofSelf, roles: RoleNode, do: (*Session).textGoOn, help: "go on behind what was answered with Elsewhere"},
		{verb: wire.Cancel, flags: forwarded | counted | onlySessions | endsWait | ofSelf, roles: locker, do: (*Session).textCancel, help: "stop waiting"},
		{verb: wire.Quit, flags: counted | endsWait, roles: anybody, do: (*Session).textQuit, help: "end the connection, or the session"},
		{verb: wire.Query, flags: lists | counted | alwaysListed, roles: reader, do: (*Session).textQuery, help: "show counters"},
	}
	for i := range commands {
		c := &commands[i]
		c.number = i
		byLetter[c.verb[0]] = append(byLetter[c.verb[0]], c)
	}
}
