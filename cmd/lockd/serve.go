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

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// serveCmd is the server's command line. Numbers that are not given are 0 and
// take the defaults of pkg/server, which the help texts repeat.
type serveCmd struct {
	TCP             list          `name:"tcp" short:"t" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve lines over TCP. A port alone means all interfaces. May be repeated, as all of these. Without any of them: 127.0.0.1:9999."`
	Unix            paths         `placeholder:"PATH" sep:"none" group:"Listening" help:"Serve lines over a unix socket. For several, repeat the flag: a path may have commas in it."`
	UnixMode        fileMode      `placeholder:"MODE" default:"0660" group:"Listening" help:"Mode of the unix sockets (${default})."`
	WebSocket       list          `name:"websocket" short:"w" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve WebSocket connections, on any path."`
	WebSocketOrigin list          `name:"websocket-origin" placeholder:"ORIGIN" group:"Listening" help:"Let pages of this origin (https://example.com, or * for all) connect by WebSocket, besides those of the same host."`
	Admin           filled        `placeholder:"[HOST:]PORT|off" default:"127.0.0.1:9997" group:"Listening" help:"Serve /metrics, /healthz and /readyz over HTTP (${default})."`
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
	DeadPeerTimeout time.Duration `placeholder:"TIME" default:"20s" group:"Running" help:"How long a client may be silent that has been asked whether it is there, before its machine counts as vanished and its locks are free (${default}). From 2s to 1h; the clients' own time-outs have to fit, and lockd's ask for it."`
	DrainTimeout    time.Duration `min:"0" placeholder:"TIME" default:"10s" group:"Running" help:"On SIGTERM or SIGINT, how long clients that hold locks may take to release them (${default})."`
	PidFile         filled        `short:"p" placeholder:"PATH" group:"Running" help:"Tell the process's number in a file, which others may read. Refuses to start when another live server has it."`
	PidFileFormat   string        `enum:"glockd,pid" placeholder:"glockd|pid" default:"glockd" group:"Running" help:"What is in the pid file: the process's number and the port, a line each, as glockd has it; or pid, the number alone, for kill $$(cat FILE) (${default})."`
	LogFormat       string        `enum:"text,json" placeholder:"text|json" default:"text" group:"Running" help:"Format of the log, which goes to stderr (${default})."`
	Verbose         bool          `short:"v" group:"Running" help:"Log connections, too."`
}

// defaultTCP is where lockd listens when no listener is asked for.
const defaultTCP = "127.0.0.1:9999"

func (c *serveCmd) options() server.Options {
	if len(c.TCP)+len(c.Unix)+len(c.WebSocket) == 0 {
		c.TCP = list{defaultTCP}
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
		Admin:                 string(c.Admin),
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
		DeadPeerTimeout:       c.DeadPeerTimeout,
	}
}

// Run serves until a signal asks to stop.
func (c *serveCmd) Run() error {
	survivePipes()
	// From here on: a signal that comes while starting must not be lost.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	hangups := make(chan os.Signal, 1)
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signal.Notify(hangups, syscall.SIGHUP)
	}

	log, queue := c.logger()
	defer queue.flush()
	opts := c.options()
	opts.Logger = log
	s, err := server.New(opts)
	if err != nil {
		return usageError{flagError(err)}
	}
	var pid *pidFile
	if c.PidFile != "" {
		if pid, err = lockPidFile(string(c.PidFile)); err != nil {
			return err
		}
		defer pid.Remove()
	}
	if err := s.Listen(); err != nil {
		return flagError(err)
	}
	if c.PidFile != "" {
		if err := pid.write(c.PidFileFormat, port(s.Addrs())); err != nil {
			now, stop := context.WithCancel(context.Background())
			stop()
			s.Shutdown(now) // for its sockets to go
			return err
		}
	}
	announce(log, s.Addrs())

	got := untilStopped(log, signals, hangups)
	log.Info("shutting down", "signal", got, "drain-timeout", c.DrainTimeout)
	ctx, stop := context.WithTimeoutCause(context.Background(), c.DrainTimeout, errors.New("drain timeout"))
	defer stop()
	ctx, cut := context.WithCancelCause(ctx)
	go func() {
		<-signals
		cut(errors.New("second signal"))
	}()
	s.Shutdown(ctx)
	log.Info("stopped")
	return nil
}

// untilStopped returns the signal that asks the server to stop. A hangup does not:
// logrotate and `systemctl reload` send it out of habit, to have files read again,
// and so does a terminal that is closed. To stop would free every lock.
func untilStopped(log *slog.Logger, signals, hangups <-chan os.Signal) os.Signal {
	for {
		select {
		case got := <-signals:
			return got
		case got := <-hangups:
			log.Info("there is nothing to read again: going on", "signal", got)
		}
	}
}

// flagError names the flag whose option an error of the server is about.
func flagError(err error) error {
	var o *server.OptionError
	if !errors.As(err, &o) {
		return err
	}
	if o.Option == "admin" {
		return fmt.Errorf("--%w (off disables it)", o)
	}
	return fmt.Errorf("--%w", o)
}

// announce logs where the server listens, and a warning when others than this
// machine can reach it.
func announce(log *slog.Logger, addrs []server.Addr) {
	attrs := []any{"version", server.Version, "pid", os.Getpid()}
	var open []string
	for _, a := range addrs {
		if n := len(attrs); attrs[n-2] == a.Transport { // JSON has each key once
			attrs[n-1] = attrs[n-1].(string) + "," + a.String()
		} else {
			attrs = append(attrs, a.Transport, a.String())
		}
		if tcp, ok := a.Addr.(*net.TCPAddr); ok && a.Transport != "admin" && !tcp.IP.IsLoopback() {
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

// Decode implements kong.MapperValue.
func (m *fileMode) Decode(ctx *kong.DecodeContext) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n == 0 || n > 0o777 { // 0 would lock everybody out
		return fmt.Errorf("%q is no file mode, such as 0660", text)
	}
	*m = fileMode(n)
	return nil
}
