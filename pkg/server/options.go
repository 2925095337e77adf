package server

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/auth"
	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/cputime"
	"github.com/nylen/lockd/internal/hosts"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

// Options configure a Server. The zero value works: it listens nowhere by
// itself and has every bound at its default.
type Options struct {
	// TCP are addresses for the line protocol, `HOST:PORT` or `PORT` alone,
	// which means all interfaces. Port 0 lets the kernel pick one.
	TCP []string
	// Unix are paths of unix sockets for the line protocol, on Linux also
	// abstract names, which begin with @. A socket file that no server answers
	// at any more is replaced, a live one is not: while it listens, a server
	// has locked a file beside the socket, PATH.lock, that belongs to its user
	// and that it removes at the end. (There is none on Windows.)
	Unix []string
	// UnixMode is the mode of the socket files; 0 means 0660.
	UnixMode fs.FileMode
	// WebSocket are addresses for WebSocket connections, in the form of TCP.
	WebSocket []string
	// WebSocketOrigins are the origins, `scheme://host[:port]`, whose pages
	// may connect by WebSocket besides those of the same host; "*" means all.
	WebSocketOrigins []string
	// AllowedHosts are names, such as `lockd.example.com`, under which browsers
	// may ask for the WebSocket listeners, and anybody for the admin address,
	// besides localhost and addresses; "*" means all. Others are refused: a
	// page of a stranger can have its own host's name point to this server.
	AllowedHosts []string
	// ProxyProtocol are the networks, `192.0.2.0/24` or an address, of proxies.
	// A connection from there to a listener for clients must begin with a PROXY
	// header, version 1 or 2, and its client's address is the one that stands
	// there; it never counts as being on this machine. "unix" means all
	// connections over unix sockets.
	ProxyProtocol []string
	// TLS are addresses for the line protocol within TLS, in the form of TCP, and
	// WSS those for WebSocket within TLS.
	TLS, WSS []string
	// TLSCert and TLSKey are files, in PEM: the certificate that clients of TLS
	// and WSS get to see, with those between it and its authority's, and its key.
	// They are read again when they change: connections stay as they are, the next
	// handshake gets the new one. What cannot be used is logged, and the old one
	// stays in use.
	TLSCert, TLSKey string
	// TLSClientCA is a file with the certificates, in PEM, of those who sign
	// clients' certificates, likewise. With it, every client of TLS and WSS has to
	// show one. Empty means that none is asked for.
	TLSClientCA string
	// TLSMinVersion is the oldest version of TLS that is spoken:
	// tls.VersionTLS13, which 0 means too, or tls.VersionTLS12.
	TLSMinVersion uint16
	// TLSConfig is for programs that have certificates from elsewhere. It takes
	// the place of TLSCert, TLSKey, TLSClientCA and TLSMinVersion.
	TLSConfig *tls.Config
	// HTTP are addresses for requests for units of rates over HTTP, in the form of
	// TCP; see docs/rate-limiting.md. Whoever reaches them can use up rates, so they
	// are for proxies and programs, and never for the internet. PROXY headers are
	// not for them, nor TLS.
	HTTP []string
	// Admin is the address of the HTTP server for /metrics, /healthz and
	// /readyz, in the form of TCP. Empty means none.
	Admin string
	// AdminTLS has the admin address speak HTTPS. A client's certificate is
	// verified there if there is one, and TLSClientCA, but need not be shown.
	AdminTLS bool

	// AuthFile is a file that says who may do what, a line each: `NAME
	// ROLE[:PREFIX] HOW`. It is read again when it changes, which counts for
	// clients that are there, too; one that is wrong changes nothing. Empty
	// means that everybody may do everything, but kick from other machines.
	AuthFile string
	// AuthOn are the transports whose clients have to show who they are, once
	// there is an AuthFile, before they may do anything: some of "tcp",
	// "websocket", "tls", "wss", "http" and "unix", or "none". Nil means all of them but
	// unix. What clients show of themselves counts everywhere.
	AuthOn []string

	// DisableDump answers d, sd, dump, who, look, look*, losses, top and clients
	// with `0 disabled`; the page and the API have no names then.
	DisableDump bool
	// DisableRegistry answers iam and who with `0 disabled`.
	DisableRegistry bool

	// Shards is the number of independently locked parts of the table, a power
	// of two up to 65536; 0 means the next one over four times GOMAXPROCS.
	Shards int
	// MaxLine bounds a request's line, in bytes without its newline; 0 means
	// 4096. A longer line is answered `0 Line Too Long` and passed over.
	MaxLine int
	// MaxOutput bounds the replies, in bytes, that wait for a client to read
	// them; 0 means 64 KiB. When it is reached the server stops reading from
	// that client.
	MaxOutput int
	// MaxMessage bounds a WebSocket message, in bytes; 0 means 64 KiB. A
	// larger one ends the connection.
	MaxMessage int
	// MaxConnections bounds the connections; 0 means what the process's limit
	// on open files allows, less a reserve, and so does more than that. One
	// more is answered `0 Too Many Connections` and closed.
	MaxConnections int
	// MaxLocks bounds the locks held in all, a shared lock counting once for
	// each of its holders; 0 means 16,777,216. One more is answered
	// `0 Too Many Locks: NAME`.
	MaxLocks int
	// MaxLocksPerConnection is the same for one connection, in protocol 2 for
	// one session; 0 means no bound of its own.
	MaxLocksPerConnection int
	// MaxWaiters bounds how many wait for locks at a time; 0 means 1,048,576.
	// One more is answered `0 Too Many Waiters: NAME`.
	MaxWaiters int
	// MaxSessions bounds the sessions of one connection (protocol 2); 0 means
	// 65,536. One more is answered `0 Too Many Sessions`.
	MaxSessions int

	// Inherited are listeners that somebody else has opened, by name; systemd's
	// sockets, for one. TCP, Unix, WebSocket, TLS, WSS, HTTP and Admin take those of a name, and of
	// their kind, by `systemd:NAME` in the place of an address. Each has to be taken
	// once. They are the server's, and for nobody else to close.
	Inherited map[string][]net.Listener
	// MaxMemory bounds the memory of the process, in bytes, as far as clients can
	// have it grow: what they hold, wait for and have registered, sessions, and what
	// is kept of requests and replies. 0 means 75 % of what the machine has, or the
	// smallest limit of the process's cgroups; where neither can be found out, as on
	// Windows, and with Unbounded, there is no bound. Beyond it, what would take more
	// is answered `0 Server Full: NAME`. The server counts with a Go heap limit below
	// it, which a program sets that has no other business: see
	// runtime/debug.SetMemoryLimit.
	MaxMemory int64
	// MaxShare is how much one client may have of what is bounded for all, each
	// WHAT=NUMBER, WHAT=PERCENT% or WHAT=off, where WHAT is locks, waiters, rates,
	// sessions or bytes. What is not named is 50%; "off" alone means no shares. Beyond
	// it a client is refused as at the bound itself. Clients within the process, see
	// Dial, have no such bound.
	MaxShare []string
	// ShareBy is what makes many connections one client: "address" (the default; the
	// /64 network of an IPv6 address, the user of a unix socket), "token" (the name
	// that a client is known by, or its address) or "connection".
	ShareBy string
	// DeadPeerTimeout is for how long a client may be silent that has been asked
	// whether it is there, which the server sees to: after that its machine is
	// considered to have vanished, and what it holds is free. A client that is
	// there answers by itself, however long it works and whether it reads or
	// not. 0 means 20 s; 2 s at least, 1 h at most. Clients that hold locks have
	// to notice earlier, see docs/locking.md.
	DeadPeerTimeout time.Duration

	// MaxKeep is for how long at most a client may be without a connection that has
	// asked to be kept, see docs/surviving.md: for so long what it holds is nobody
	// else's. 0 means 30 s, less than 0 that nobody is kept; 1 h at most.
	MaxKeep time.Duration
	// State is a file in which the server keeps whom it keeps, so that they have what
	// they hold also after a restart: until they have said what that is, or their time
	// is over, nobody gets anything new then. The server has the file alone until
	// Shutdown, and locks PATH.lock beside it for that. Empty means that the end of
	// the server is the end of all locks.
	State string
	// Grace is for how long nobody gets anything new after a start, whatever else is
	// known, for clients that are not kept and may not know yet that the server was
	// gone; 0 means DeadPeerTimeout where the machine has been started since, else not
	// at all, and less than 0 not at all. It has no meaning without State, nor where there is none of
	// the file: then it is the longer one of DeadPeerTimeout and MaxKeep. 1 h at most.
	Grace time.Duration

	// WatchNames are names of locks and rates that have metrics of their own, by the
	// label name: who watches the server sees how many hold and wait, and since when.
	// At most MaxWatchNames, in UTF-8, without line breaks, and in the spelling of
	// requests: no blank at an end, nor two in a row. Other names are in no metric.
	WatchNames []string

	// LogLosses has the Logger get a line for each lock that a client lost, each wait
	// in vain and each refusal at a bound, up to 100 in a second: what the ledger
	// keeps, see `losses` in docs/protocol.md, for those who keep logs.
	LogLosses bool

	// Upstream makes the server a proxy; nil: it is none.
	Upstream *Upstream

	// Cluster makes the server a node of a cluster; nil: it is alone.
	Cluster *Cluster

	// Logger gets what the server has to say; nil means nobody does.
	Logger *slog.Logger

	inherited map[string]net.Listener // by the address that stands for it
	samples   time.Duration           // between two that the admin address takes; 0: a second

	// As they are written above.
	hosts   hosts.Allowed
	proxies conn.Proxies
}

// The defaults of Options.
const (
	DefaultUnixMode        fs.FileMode = 0o660
	DefaultMaxLine                     = 4096
	DefaultMaxOutput                   = 64 << 10
	DefaultMaxMessage                  = 64 << 10
	DefaultMaxLocks                    = shard.DefaultMaxLocks
	DefaultMaxWaiters                  = shard.DefaultMaxWaiters
	DefaultMaxSessions                 = 1 << 16
	DefaultDeadPeerTimeout             = session.DefaultDeadPeer
)

// The bounds of DeadPeerTimeout.
const (
	minDeadPeer = 2 * time.Second
	maxDeadPeer = time.Hour
)

// maxConnections is how many connections there can be whatever the options
// say.
const maxConnections = 1 << 23

// An OptionError tells that an option cannot be as it is: New cannot use it,
// or Listen not listen there.
type OptionError struct {
	Option string // as lockd's flag is named: "max-line"
	Err    error
}

func (e *OptionError) Error() string { return e.Option + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *OptionError) Unwrap() error { return e.Err }

func optionError(option, format string, args ...any) error {
	return &OptionError{option, fmt.Errorf(format, args...)}
}

// complete fills in the defaults and tells what is wrong.
func (o *Options) complete() error {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.completeTLS(); err != nil {
		return err
	}
	allowed := o.roomForConnections()
	for _, n := range []struct {
		name  string
		value *int
		unset int
		least int
	}{
		{"shards", &o.Shards, min(shard.DefaultShards(), o.mostShards()), 1},
		{"max-line", &o.MaxLine, DefaultMaxLine, 16},
		{"max-output", &o.MaxOutput, DefaultMaxOutput, 1},
		{"max-message", &o.MaxMessage, DefaultMaxMessage, 1},
		{"max-connections", &o.MaxConnections, allowed, 1},
		{"max-locks", &o.MaxLocks, DefaultMaxLocks, 1},
		{"max-waiters", &o.MaxWaiters, DefaultMaxWaiters, 1},
		{"max-sessions", &o.MaxSessions, DefaultMaxSessions, 1},
		{"max-locks-per-connection", &o.MaxLocksPerConnection, 0, 0},
	} {
		if *n.value == 0 {
			*n.value = n.unset
		}
		if *n.value < n.least {
			return optionError(n.name, "must be at least %d, not %d", n.least, *n.value)
		}
	}
	if o.DeadPeerTimeout == 0 {
		o.DeadPeerTimeout = DefaultDeadPeerTimeout
	}
	if o.DeadPeerTimeout < minDeadPeer || o.DeadPeerTimeout > maxDeadPeer {
		return optionError("dead-peer-timeout", "must be between %v and %v, not %v: a shorter one would end clients that a network has lost for a moment",
			minDeadPeer, maxDeadPeer, o.DeadPeerTimeout)
	}
	if err := o.completeKeeping(); err != nil {
		return err
	}
	if o.Shards > shard.MaxShards || o.Shards&(o.Shards-1) != 0 {
		return optionError("shards", "must be a power of two up to %d, not %d", shard.MaxShards, o.Shards)
	}
	if err := o.completeMemory(); err != nil {
		return err
	}
	if _, err := o.shares(); err != nil {
		return err
	}
	if o.ShareBy == "" {
		o.ShareBy = "address"
	}
	if _, ok := shareBys[o.ShareBy]; !ok {
		return optionError("share-by", "must be address, token or connection, not %q", o.ShareBy)
	}
	if o.MaxLine > 1<<30 {
		return optionError("max-line", "must be at most 1 GiB")
	}
	if o.MaxConnections > allowed {
		o.Logger.Warn("max-connections is more than the limit on open files (ulimit -n) allows",
			"wanted", o.MaxConnections, "allowed", allowed)
		o.MaxConnections = allowed
	}
	if err := o.inherit(); err != nil {
		return err
	}
	for option, addrs := range map[string][]string{"tcp": o.TCP, "websocket": o.WebSocket, "tls": o.TLS, "wss": o.WSS, "http": o.HTTP} {
		for _, addr := range addrs {
			if err := checkAddr(addr); err != nil {
				return &OptionError{option, err}
			}
		}
	}
	if o.Admin != "" {
		if err := checkAddr(o.Admin); err != nil {
			return &OptionError{"admin", err}
		}
	}
	if err := o.checkUpstream(); err != nil {
		return err
	}
	if err := o.checkCluster(); err != nil {
		return err
	}
	if err := o.checkAuth(); err != nil {
		return err
	}
	var err error
	if err := o.checkWatchNames(); err != nil {
		return err
	}
	if o.hosts, err = hosts.Parse(o.AllowedHosts); err != nil {
		return &OptionError{"allowed-host", err}
	}
	if o.proxies, err = conn.ParseProxies(o.ProxyProtocol); err != nil {
		return &OptionError{"proxy-protocol", err}
	}
	if o.UnixMode == 0 {
		o.UnixMode = DefaultUnixMode
	}
	if o.UnixMode&^fs.ModePerm != 0 {
		return optionError("unix-mode", "must be permission bits such as 0660, not %#o", uint32(o.UnixMode))
	}
	o.WebSocketOrigins = slices.Clone(o.WebSocketOrigins)
	for i, origin := range o.WebSocketOrigins {
		if origin == "*" {
			continue
		}
		u, err := url.Parse(origin)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.TrimSuffix(u.Path, "/") != "" {
			return optionError("websocket-origin", "must look like https://example.com or be *, not %q", origin)
		}
		// As browsers write it.
		o.WebSocketOrigins[i] = strings.ToLower(u.Scheme + "://" + u.Host)
	}
	return nil
}

// config is for the connections, whose clients an authority knows, if there is one.
func (o *Options) config(f *auth.File) conn.Config {
	var authority session.Authority
	if f != nil {
		authority = f
	}
	share, _ := o.shares() // complete has seen to that
	return conn.Config{
		Session: session.Config{
			Shards:          o.Shards,
			Table:           shard.Config{Locks: o.MaxLocks, LocksPerOwner: o.MaxLocksPerConnection, Waiters: o.MaxWaiters},
			DisableDump:     o.DisableDump,
			DisableRegistry: o.DisableRegistry,
			MaxLine:         o.MaxLine,
			MaxOutput:       o.MaxOutput,
			MaxSessions:     o.MaxSessions,
			MaxMemory:       o.clientsMemory(),
			ShareBy:         shareBys[o.ShareBy],
			Share:           share,
			DeadPeer:        o.DeadPeerTimeout,
			Version:         Version,
			Authority:       authority,
			MaxConnections:  o.MaxConnections,
			CPU:             cputime.Used,
		},
		Asks:           o.asks(),
		MaxMessage:     o.MaxMessage,
		MaxConnections: o.MaxConnections,
		MaxHandshakes:  maxHandshakes(openFiles(o.Admin != "")),
		Proxies:        o.proxies,
		Hosts:          o.hosts,
		Logger:         o.Logger,
		LogLosses:      o.LogLosses,
		Upstream:       o.upstream(),
	}
}
