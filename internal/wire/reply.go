package wire

import "strconv"

// The texts that follow a reply's number. Those that end in a blank are
// followed by the lock's name.
const (
	GetSuccess     = "Lock Get Success: "
	GetFailure     = "Lock Get Failure: "
	ReleaseSuccess = "Lock Release Success: "
	ReleaseFailure = "Lock Release Failure: "
	IsLocked       = "Lock Is Locked: "
	NotLocked      = "Lock Not Locked: "

	SharedGetSuccess     = "Shared Lock Get Success: "
	SharedReleaseSuccess = "Shared Lock Release Success: "
	SharedReleaseFailure = "Shared Lock Release Failure: "
	SharedIsLocked       = "Shared Lock Is Locked: "
	SharedNotLocked      = "Shared Lock Not Locked: "

	TooManyLocks = "Too Many Locks: "
	ShuttingDown = "Shutting Down: "
	Unavailable  = "Unavailable: " // upstream cannot be reached
	ServerFull   = "Server Full: " // at the bound on memory

	GetTimeout         = "Lock Get Timeout: "
	GetCanceled        = "Lock Get Canceled: "
	SharedGetTimeout   = "Shared Lock Get Timeout: "
	SharedLimitReached = "Shared Lock Limit Reached: "
	TooManyWaiters     = "Too Many Waiters: "
	LockToken          = "Lock Token: "
	NotHeld            = "Lock Not Held: "
	RateAllowed        = "Rate Allowed: "
	RateOpen           = "Rate Open: "
	RateLimited        = "Rate Limited "
	RateRetry          = " ms: "
	RateDropped        = "Rate Dropped: "
	NoSuchRate         = "No Such Rate: "

	DeadPeer = "dead_peer_ms=" // what `limits` tells, a pair after another
	MaxKeep  = "max_keep_ms="
	MapIs    = "map=" // by a node of a cluster alone: the version

	Greeting = "lockd " // protocol 2's: the server's version follows
	Hello2   = "2 " + Greeting

	// Those that are followed by the request's verb.
	InvalidArgument = "Invalid Argument: "
	InvalidCommand  = "Invalid Command: "
	SessionBusy     = "Session Busy: "
	NotAllowed      = "Not Allowed: "
	NotFirst        = "Not First: " // of what has to come before anything else

	Kept               = "Kept: "            // followed by the KEY, as the next four
	KeptEverywhere     = "Kept Everywhere: " // by a node of a cluster: any of its nodes takes the client up
	KeptBlipsOnly      = "Kept Blips Only: " // by a server without a state file
	Resumed            = "Resumed: "
	ClaimsOpen         = "Claims Open " // milliseconds, a colon, a blank and the KEY follow
	UnknownKey         = "Unknown Key: "
	ClaimSuccess       = "Lock Claim Success: "
	ClaimFailure       = "Lock Claim Failure: "
	SharedClaimSuccess = "Shared Lock Claim Success: "
	SharedClaimFailure = "Shared Lock Claim Failure: "
	ServerRecovering   = "Server Recovering: "

	Elsewhere      = "Elsewhere: "       // between nodes of a cluster: it is not served here, or not now
	ClaimElsewhere = "Claim Elsewhere: " // the same of a claim, which may overtake the answer to a wait
	Linked         = "Linked: "
	NoCluster      = "No Cluster: "
	OtherCluster   = "Another Cluster: "
	OtherNode      = "Another Node: "

	Kicked       = "Kicked: "
	NoSuchClient = "No Such Client: "
)

// What follows protocol 2's `hello` of a client that wants to be told what it has
// not asked for, and what it is told: the number's place has Notice, so that no
// reply looks like one.
const (
	Notices  = "notices"
	Notice   = "! "
	LockLost = "Lock Lost: " // the lock's name follows
	Draining = "Draining\n"
	NewMap   = "Map " // the version follows
)

// KeyDigits is how long a KEY is, in hexadecimal digits.
const KeyDigits = 32

// MaxToken is the largest fencing token: larger ones would lose their last
// digits in languages whose numbers are 64-bit floats.
const MaxToken = 1<<53 - 1

// Replies that are the same whatever the request.
const (
	OK                 = "1 ok\n"
	KeepDisabled       = "0 Keep Disabled\n"
	Disabled           = "0 disabled\n"
	AuthFailed         = "0 Auth Failed\n"       // 100 ms late
	NotAuthenticated   = "0 Not Authenticated\n" // a server that asks who one is
	LineTooLong        = "0 Line Too Long\n"
	TooManyConnections = "0 Too Many Connections\n"
	TooManySessions    = "0 Too Many Sessions\n"
	ServerFullAlone    = "0 Server Full\n" // of a session that cannot be made
	InvalidRequest     = "? 0 Invalid Request\n"
	Pong               = "1 pong\n"
	Bye                = "1 bye\n"
	End                = "1 End\n" // protocol 2's, after the lines of a reply of many; of Look and LookAll in protocol 1, too
	EndOf              = "End"     // the same of Map, with the version as its number
	Item               = "- "      // before each of them
)

// AppendReply appends the line `NUMBER TEXTNAME`.
func AppendReply(dst []byte, number uint64, text string, name []byte) []byte {
	if number < 10 {
		dst = append(dst, byte('0'+number))
	} else {
		dst = strconv.AppendUint(dst, number, 10)
	}
	dst = append(dst, ' ')
	dst = append(dst, text...)
	dst = append(dst, name...)
	return append(dst, '\n')
}

// AppendRateLimited appends the line that says when to try again, in
// milliseconds.
func AppendRateLimited(dst []byte, retry uint64, name []byte) []byte {
	dst = append(dst, "0 "+RateLimited...)
	dst = strconv.AppendUint(dst, retry, 10)
	dst = append(dst, RateRetry...)
	dst = append(dst, name...)
	return append(dst, '\n')
}

// AppendLimits appends what a client's own time-outs must fit, in milliseconds.
func AppendLimits(dst []byte, deadPeer, maxKeep uint64) []byte {
	dst = strconv.AppendUint(append(dst, "1 "+DeadPeer...), deadPeer, 10)
	dst = strconv.AppendUint(append(dst, " "+MaxKeep...), maxKeep, 10)
	return append(dst, '\n')
}

// AppendMapLimit adds to those which map a node of a cluster has.
func AppendMapLimit(dst []byte, version uint64) []byte {
	dst = append(dst[:len(dst)-1], " "+MapIs...)
	return append(strconv.AppendUint(dst, version, 10), '\n')
}

// The words of a line of Look, whose fields have a TAB between.
const (
	Exclusive = "exclusive" // kinds
	Shared    = "shared"
	Rate      = "rate"
	Held      = "held" // states
	Away      = "kept" // held by who has no connection now
	Waits     = "waits"
	Limited   = "limited"
	Open      = "open"
)

// AppendKey appends the beginning of the line `KEY: VALUE`, the form in which
// holders, registrations and counters are listed.
func AppendKey[K ~[]byte | ~string](dst []byte, key K) []byte {
	return append(append(dst, key...), ": "...)
}

// The orders of Top and Clients.
const (
	ByQueue    = "queue"
	ByAge      = "oldest"
	ByRequests = "busiest"
	ByLocks    = "locks"
	ByWaits    = "waits"
	ByBytes    = "bytes"
)
