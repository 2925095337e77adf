package wire

// The verbs: a request's first word, in protocol 2 the one behind the
// session's number. docs/protocol.md says what each means.
const (
	Get           = "g"
	Release       = "r"
	Inspect       = "i"
	GetShared     = "sg"
	ReleaseShared = "sr"
	InspectShared = "si"

	GetWait        = "gw"
	GetSharedLimit = "sgl"
	GetSharedWait  = "sgw"
	Token          = "t"

	TakeRate    = "rl"
	InspectRate = "ri"
	DropRate    = "rd"

	Dump       = "d"
	DumpShared = "sd"
	DumpMap    = "dump"
	Me         = "me"
	IAm        = "iam"
	Who        = "who"
	Look       = "look"
	LookAll    = "look*"
	Top        = "top"
	Clients    = "clients"
	Stats      = "stats"
	Losses     = "losses"
	Kick       = "kick"
	Query      = "q"

	Keep    = "keep"
	Resume  = "resume"
	Claim   = "claim"
	Claims  = "claims"
	Claimed = "claimed"

	Map = "map" // of a cluster

	Link     = "link" // between its nodes, as what follows
	Peer     = "peer"
	GoOn     = "on"
	As       = "as"
	Copy     = "copy"
	Put      = "put"
	Copied   = "copied"
	Followed = "followed"

	Ping   = "ping"
	Limits = "limits"
	Auth   = "auth"
	Hello  = "hello"
	Cancel = "cancel"
	Quit   = "bye"
)
