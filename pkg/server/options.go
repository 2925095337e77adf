package server

import (
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/conn"
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
	// Admin is the address of the HTTP server for /metrics, /healthz and
	// /readyz, in the form of TCP. Empty means none.
	Admin string

	// DisableDump answers d, sd, dump and who with `0 disabled`.
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

	// DeadPeerTimeout is for how long a client may be silent that has been asked
	// whether it is there, which the server sees to: after that its machine is
	// considered to have vanished, and what it holds is free. A client that is
	// there answers by itself, however long it works and whether it reads or
	// not. 0 means 20 s; 2 s at least, 1 h at most. Clients that hold locks have
	// to notice earlier, see docs/locking.md.
	DeadPeerTimeout time.Duration

	// Logger gets what the server has to say; nil means nobody does.
	Logger *slog.Logger
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
	allowed := openFiles()
	for _, n := range []struct {
		name  string
		value *int
		unset int
		least int
	}{
		{"shards", &o.Shards, shard.DefaultShards(), 1},
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
	if o.Shards > shard.MaxShards || o.Shards&(o.Shards-1) != 0 {
		return optionError("shards", "must be a power of two up to %d, not %d", shard.MaxShards, o.Shards)
	}
	if o.MaxLine > 1<<30 {
		return optionError("max-line", "must be at most 1 GiB")
	}
	if o.MaxConnections > allowed {
		o.Logger.Warn("max-connections is more than the limit on open files (ulimit -n) allows",
			"wanted", o.MaxConnections, "allowed", allowed)
		o.MaxConnections = allowed
	}
	for option, addrs := range map[string][]string{"tcp": o.TCP, "websocket": o.WebSocket} {
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

func (o *Options) config() conn.Config {
	return conn.Config{
		Session: session.Config{
			Shards:          o.Shards,
			Table:           shard.Config{Locks: o.MaxLocks, LocksPerOwner: o.MaxLocksPerConnection, Waiters: o.MaxWaiters},
			DisableDump:     o.DisableDump,
			DisableRegistry: o.DisableRegistry,
			MaxLine:         o.MaxLine,
			MaxOutput:       o.MaxOutput,
			MaxSessions:     o.MaxSessions,
			DeadPeer:        o.DeadPeerTimeout,
			Version:         Version,
		},
		MaxMessage:     o.MaxMessage,
		MaxConnections: o.MaxConnections,
		Logger:         o.Logger,
	}
}
