package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// serveCmd is the server's command line. Numbers that are 0 take the defaults
// of pkg/server, which the help texts repeat.
type serveCmd struct {
	TCP             []string      `name:"tcp" short:"t" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve lines over TCP. A port alone means all interfaces. May be repeated, as all of these. Without any of them: 127.0.0.1:9999."`
	Unix            []string      `placeholder:"PATH" group:"Listening" help:"Serve lines over a unix socket."`
	UnixMode        fileMode      `placeholder:"MODE" default:"0660" group:"Listening" help:"Mode of the unix sockets (${default})."`
	WebSocket       []string      `name:"websocket" short:"w" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve WebSocket connections, on any path."`
	WebSocketOrigin []string      `name:"websocket-origin" placeholder:"ORIGIN" group:"Listening" help:"Let pages of this origin (https://example.com, or * for all) connect by WebSocket, besides those of the same host."`
	Admin           string        `placeholder:"[HOST:]PORT|off" default:"127.0.0.1:9997" group:"Listening" help:"Serve /metrics, /healthz and /readyz over HTTP (${default})."`
	DisableDump     bool          `group:"Features" help:"Answer d, sd, dump and who with '0 disabled'."`
	DisableRegistry bool          `group:"Features" help:"Answer iam and who with '0 disabled'."`
	Shards          int           `placeholder:"N" group:"Bounds" help:"Independently locked parts of the table, a power of two (the next one over 4 x cores)."`
	MaxConnections  int           `placeholder:"N" group:"Bounds" help:"Connections (the limit on open files, less a reserve)."`
	MaxLocks        int           `placeholder:"N" group:"Bounds" help:"Locks held in all (16777216)."`
	MaxLocksPerConn int           `name:"max-locks-per-connection" placeholder:"N" group:"Bounds" help:"Locks held by one connection, in protocol 2 by one session (no bound of its own)."`
	MaxWaiters      int           `placeholder:"N" group:"Bounds" help:"Clients that wait for locks at a time (1048576)."`
	MaxSessions     int           `placeholder:"N" group:"Bounds" help:"Sessions of one connection, in protocol 2 (65536)."`
	MaxLine         int           `placeholder:"BYTES" group:"Bounds" help:"Length of a request's line (4096)."`
	MaxOutput       int           `placeholder:"BYTES" group:"Bounds" help:"Replies that wait for a client to read them; when it is full the server stops reading from that client (65536)."`
	MaxMessage      int           `placeholder:"BYTES" group:"Bounds" help:"Size of a WebSocket message (65536)."`
	DrainTimeout    time.Duration `placeholder:"TIME" default:"10s" group:"Running" help:"On SIGTERM or SIGINT, how long clients that hold locks may take to release them (${default})."`
	PidFile         string        `short:"p" placeholder:"PATH" group:"Running" help:"Write the process's number and the port, a line each. Refuses to start when another live server has it."`
	LogFormat       string        `enum:"text,json" placeholder:"text|json" default:"text" group:"Running" help:"Format of the log, which goes to stderr (${default})."`
	Verbose         bool          `short:"v" group:"Running" help:"Log connections, too."`
}

// defaultTCP is where lockd listens when no listener is asked for.
const defaultTCP = "127.0.0.1:9999"

func (c *serveCmd) options() server.Options {
	if len(c.TCP)+len(c.Unix)+len(c.WebSocket) == 0 {
		c.TCP = []string{defaultTCP}
	}
	if c.Admin == "off" {
		c.Admin = ""
	}
	return server.Options{
		TCP:                   c.TCP,
		Unix:                  c.Unix,
		UnixMode:              fs.FileMode(c.UnixMode),
		WebSocket:             c.WebSocket,
		WebSocketOrigins:      c.WebSocketOrigin,
		Admin:                 c.Admin,
		DisableDump:           c.DisableDump,
		DisableRegistry:       c.DisableRegistry,
		Shards:                c.Shards,
		MaxLine:               c.MaxLine,
		MaxOutput:             c.MaxOutput,
		MaxMessage:            c.MaxMessage,
		MaxConnections:        c.MaxConnections,
		MaxLocks:              c.MaxLocks,
		MaxLocksPerConnection: c.MaxLocksPerConn,
		MaxWaiters:            c.MaxWaiters,
		MaxSessions:           c.MaxSessions,
		Logger:                c.logger(),
	}
}

func (c *serveCmd) logger() *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if c.Verbose {
		opts.Level = slog.LevelDebug
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

// Run serves until a signal asks to stop.
func (c *serveCmd) Run() error {
	// From here on: a signal that comes while starting must not be lost.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)

	opts := c.options()
	s, err := server.New(opts)
	if err != nil {
		return errors.Unwrap(err)
	}
	if c.PidFile != "" {
		p, err := lockPidFile(c.PidFile)
		if err != nil {
			return err
		}
		defer p.remove()
		if err := s.Listen(); err != nil {
			return err
		}
		if err := p.write(port(s.Addrs())); err != nil {
			return err
		}
	} else if err := s.Listen(); err != nil {
		return err
	}
	announce(opts.Logger, s.Addrs())

	got := <-signals
	opts.Logger.Info("shutting down", "signal", got, "drain-timeout", c.DrainTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), c.DrainTimeout)
	defer cancel()
	go func() {
		<-signals // the second one means at once
		cancel()
	}()
	if err := s.Shutdown(ctx); err != nil {
		opts.Logger.Warn("cut off clients that still held locks", "reason", err)
	}
	opts.Logger.Info("stopped")
	return nil
}

// announce logs where the server listens, and a warning when others than this
// machine can reach it.
func announce(log *slog.Logger, addrs []server.Addr) {
	attrs := []any{"version", server.Version, "pid", os.Getpid()}
	var open []string
	for _, a := range addrs {
		attrs = append(attrs, a.Transport, a.String())
		if tcp, ok := a.Addr.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
			open = append(open, a.String())
		}
	}
	log.Info("listening", attrs...)
	if len(open) > 0 {
		log.Warn("anybody who reaches these addresses can take and release locks: "+
			"lockd has no encryption or authentication, so keep them behind a firewall",
			"addrs", strings.Join(open, " "))
	}
}

// port returns the number for the pid file: the first TCP port for clients.
func port(addrs []server.Addr) int {
	for _, a := range addrs {
		if tcp, ok := a.Addr.(*net.TCPAddr); ok && a.Transport != "admin" {
			return tcp.Port
		}
	}
	return 0
}

// fileMode is permission bits, written in octal.
type fileMode fs.FileMode

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *fileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 8, 32)
	if err != nil || n > 0o777 {
		return fmt.Errorf("%q is no file mode, such as 0660", text)
	}
	*m = fileMode(n)
	return nil
}
