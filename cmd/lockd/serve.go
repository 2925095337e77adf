package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/pkg/server"
)

// serveCmd is the server's command line.
type serveCmd struct {
	serving
	membership `group:"Cluster"`
	HTTP       list          `name:"http" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve POST and GET /api/v1/rates/NAME/take over HTTP, for proxies (nginx, HAProxy, Caddy, Traefik) and programs that limit what they serve. Never open it to the internet."`
	State      filled        `placeholder:"FILE" group:"Running" help:"Keep whom the server keeps in this file, so that clients that ask for it (lockd run --keep, a Locker's Keep, lockd proxy) have their locks also after a restart: until they are back, or their time is over, nobody gets anything new then. lockd state new makes one for a first start."`
	MaxKeep    time.Duration `min:"0" placeholder:"TIME" default:"30s" group:"Running" help:"How long at most a client may be without a connection that asks to be kept; 0: nobody is (${default})."`
	Grace      graceTime     `placeholder:"TIME" group:"Running" help:"With --state, how long nobody gets anything new after a start, for clients that are not kept and may not know yet that the server was gone (--dead-peer-timeout if the machine was started anew, else 0)."`
}

// serving is what servers and proxies have in common of it. Numbers that are not given
// are 0 and take the defaults of pkg/server, which the help texts repeat.
type serving struct {
	TCP             list          `name:"tcp" short:"t" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve lines over TCP. A port alone means all interfaces, systemd:NAME the sockets of that name that systemd has opened. May be repeated, as all of these. Without any of them: 127.0.0.1:9999."`
	Unix            paths         `placeholder:"PATH" sep:"none" group:"Listening" help:"Serve lines over a unix socket. For several, repeat the flag: a path may have commas in it."`
	UnixMode        fileMode      `placeholder:"MODE" default:"0660" group:"Listening" help:"Mode of the unix sockets (${default})."`
	WebSocket       list          `name:"websocket" short:"w" placeholder:"[HOST:]PORT" group:"Listening" help:"Serve WebSocket connections, on any path."`
	WebSocketOrigin list          `name:"websocket-origin" placeholder:"ORIGIN" group:"Listening" help:"Let pages of this origin (https://example.com, or * for all) connect by WebSocket, besides those of the same host."`
	AllowedHost     list          `name:"allowed-host" placeholder:"NAME" group:"Listening" help:"Let pages reach the WebSocket ports, and anybody the admin and the HTTP ports, under this host name, besides localhost and addresses (* for all)."`
	ProxyProtocol   list          `name:"proxy-protocol" placeholder:"CIDR" group:"Listening" help:"Connections of clients from this network (or address, or unix for all over unix sockets) must begin with a PROXY header, version 1 or 2, which tells the client's address."`
	TLS             list          `name:"tls" placeholder:"[HOST:]PORT" group:"TLS" help:"Serve lines within TLS."`
	WSS             list          `name:"wss" placeholder:"[HOST:]PORT" group:"TLS" help:"Serve WebSocket connections within TLS, on any path."`
	TLSCert         filled        `name:"tls-cert" placeholder:"FILE" group:"TLS" help:"The server's certificate (PEM), with those between it and its authority's. These files are read again when they change."`
	TLSKey          filled        `name:"tls-key" placeholder:"FILE" group:"TLS" help:"Its key."`
	TLSClientCA     filled        `name:"tls-client-ca" placeholder:"FILE" group:"TLS" help:"The authorities of clients' certificates: every client has to show one."`
	TLSMinVersion   string        `name:"tls-min-version" enum:"1.2,1.3" placeholder:"1.2|1.3" default:"1.3" group:"TLS" help:"The oldest version of TLS that is spoken (${default})."`
	AdminTLS        bool          `name:"admin-tls" group:"TLS" help:"Have the admin address speak HTTPS. Nobody needs a client's certificate there."`
	Admin           filled        `placeholder:"[HOST:]PORT|off" default:"127.0.0.1:9997" group:"Listening" help:"Serve the page for browsers, its JSON API, /metrics, /healthz, /readyz and profiles over HTTP (${default})."`
	WatchNames      lockNames     `placeholder:"NAME" sep:"none" group:"Listening" help:"Give the lock and the rate of this name metrics of their own: who holds, who waits, since when. For several, repeat the flag, up to 100 times. Other names are in no metric."`
	AuthFile        filled        `placeholder:"PATH" group:"Access" help:"Who may do what: a file with a line NAME ROLE[:PREFIX] HOW each, which lockd token makes. It is read again when it changes. Without one, whoever reaches the server may take locks."`
	AuthOn          list          `placeholder:"TRANSPORT" group:"Access" help:"Where clients have to show who they are: tcp, websocket, tls, wss, http, unix, or none (all but unix)."`
	DisableDump     bool          `group:"Features" help:"Answer d, sd, dump, who, look, look*, losses, top and clients with '0 disabled', and show no names on the page."`
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
	MaxMemory       memory        `placeholder:"SIZE|off" group:"Bounds" help:"Memory of the process, as far as clients can have it grow: 2GiB, 512MiB (75% of the machine's, or of the smallest limit of the cgroups)."`
	MaxShare        list          `placeholder:"WHAT=N" group:"Bounds" help:"What one client may have of locks, waiters, rates, sessions and bytes: a number, a part of all (locks=10%,bytes=100MiB), or off. What is not named: 50%; off alone: no shares."`
	ShareBy         string        `enum:"address,token,connection" placeholder:"address|token|connection" default:"address" group:"Bounds" help:"What one client is for its share: an address (of IPv6 a /64 network, over unix sockets a user), the name of a token, or a connection (${default})."`
	DeadPeerTimeout time.Duration `placeholder:"TIME" default:"20s" group:"Running" help:"How long a client may be silent that has been asked whether it is there, before its machine counts as vanished and its locks are free (${default}). From 2s to 1h; the clients' own time-outs have to fit, and lockd's ask for it."`
	DrainDelay      time.Duration `min:"0" placeholder:"TIME" default:"0s" group:"Running" help:"On SIGTERM or SIGINT, for how long /readyz says 503 and all else goes on, so that balancers send new clients elsewhere; the drain follows (${default})."`
	DrainTimeout    time.Duration `min:"0" placeholder:"TIME" default:"10s" group:"Running" help:"Then, how long clients that hold locks may take to release them, while nobody gets new ones (${default})."`
	PidFile         filled        `short:"p" placeholder:"PATH" group:"Running" help:"Tell the process's number in a file, which others may read. Refuses to start when another live server has it."`
	PidFileFormat   string        `enum:"glockd,pid" placeholder:"glockd|pid" default:"glockd" group:"Running" help:"What is in the pid file: the process's number and the port, a line each, as glockd has it; or pid, the number alone, for kill $$(cat FILE) (${default})."`
	LogFormat       string        `enum:"text,json" placeholder:"text|json" default:"text" group:"Running" help:"Format of the log, which goes to stderr (${default})."`
	LogLosses       bool          `group:"Running" help:"Log each lock that a client lost, each wait in vain and each refusal at a bound, with why: up to 100 lines a second. lockd losses shows the latest in any case."`
	Verbose         bool          `short:"v" group:"Running" help:"Log connections, too."`
}

// defaultTCP is where lockd listens when no listener is asked for.
const defaultTCP = "127.0.0.1:9999"

func (c *serveCmd) options() server.Options {
	opts := c.serving.options()
	opts.HTTP = c.HTTP
	opts.State = string(c.State)
	opts.MaxKeep = maxKeep(c.MaxKeep)
	opts.Grace = c.Grace.option()
	opts.Cluster = c.option(opts.Admin)
	return opts
}

// Validate is called by kong.
func (c *serveCmd) Validate() error { return c.membership.check() }

// Run serves until a signal asks to stop.
func (c *serveCmd) Run() error {
	err := c.run(c.options(), func(*slog.Logger, *server.Server) error { return nil })
	if join := new(server.JoinError); errors.As(err, &join) {
		code, text := c.explain(string(c.Cluster), join.Took.Round(100*time.Millisecond), join.Err)
		fail(code, text)
	}
	return err
}

func (c *serving) options() server.Options {
	if len(c.TCP)+len(c.Unix)+len(c.WebSocket)+len(c.TLS)+len(c.WSS) == 0 {
		c.TCP = list{defaultTCP}
	}
	if c.Admin == "off" {
		c.Admin = ""
	}
	minVersion := uint16(0) // where there are no files nobody minds
	if c.TLSCert != "" && c.TLSMinVersion == "1.2" {
		minVersion = tls.VersionTLS12
	}
	return server.Options{
		TCP:                   c.TCP,
		Unix:                  c.Unix,
		UnixMode:              fs.FileMode(c.UnixMode),
		WebSocket:             c.WebSocket,
		WebSocketOrigins:      c.WebSocketOrigin,
		TLS:                   c.TLS,
		WSS:                   c.WSS,
		TLSCert:               string(c.TLSCert),
		TLSKey:                string(c.TLSKey),
		TLSClientCA:           string(c.TLSClientCA),
		TLSMinVersion:         minVersion,
		AllowedHosts:          c.AllowedHost,
		ProxyProtocol:         c.ProxyProtocol,
		Admin:                 string(c.Admin),
		AdminTLS:              c.AdminTLS,
		WatchNames:            c.WatchNames,
		AuthFile:              string(c.AuthFile),
		AuthOn:                c.AuthOn,
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
		MaxMemory:             int64(c.MaxMemory),
		MaxShare:              c.MaxShare,
		ShareBy:               c.ShareBy,
		DeadPeerTimeout:       c.DeadPeerTimeout,
		LogLosses:             c.LogLosses,
	}
}

// run serves until a signal asks to stop. before is called before clients are let in.
func (c *serving) run(opts server.Options, before func(*slog.Logger, *server.Server) error) error {
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
	opts.Logger = log
	if c.TLSCert != "" && len(c.TLS)+len(c.WSS) == 0 && !c.AdminTLS {
		return usageError{errors.New("--tls-cert: nothing speaks TLS: listen with --tls or --wss, too")}
	}
	manager := newManager(log)
	var err error
	if opts.Inherited, err = passedSockets(); err != nil {
		return err
	}
	s, err := server.New(opts)
	if join := new(server.JoinError); errors.As(err, &join) {
		return join // no flag has to be wrong
	}
	if err != nil {
		return usageError{flagError(err)}
	}
	limitHeap(s.MaxMemory())
	var pid *pidFile
	if c.PidFile != "" {
		if pid, err = lockPidFile(string(c.PidFile)); err != nil {
			return err
		}
		defer pid.Remove()
	}
	if err := before(log, s); err != nil {
		return err
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
	announce(log, s.Addrs(), c.AdminTLS)
	manager.ready("serving")
	watched, unwatch := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { manager.watch(watched, s.Responds) })

	got := untilStopped(signals, hangups, func(got os.Signal) {
		manager.reload(func() { readAgain(log, s, got) })
	})
	c.drain(log, s, manager, got, signals)
	unwatch()
	watching.Wait()
	log.Info("stopped")
	return nil
}

// stopSlack is what the end takes besides the times that the flags give.
const stopSlack = 10 * time.Second

// drain ends the server when a signal has asked for that.
func (c *serving) drain(log *slog.Logger, s *server.Server, m *manager, got os.Signal, signals <-chan os.Signal) {
	begun, cut := context.WithCancelCause(context.Background())
	defer cut(nil)
	go func() {
		select {
		case <-signals:
			cut(errors.New("second signal"))
		case <-begun.Done():
		}
	}()
	s.Retire()
	m.stopping(c.DrainDelay+c.DrainTimeout+stopSlack, fmt.Sprintf("stopping, in %v at most", c.DrainDelay+c.DrainTimeout))
	if c.DrainDelay > 0 {
		log.Info("shutting down: /readyz is 503, and all else goes on for a while", "signal", got, "drain-delay", c.DrainDelay)
		select {
		case <-time.After(c.DrainDelay):
		case <-begun.Done():
		}
	}
	log.Info("shutting down", "signal", got, "drain-timeout", c.DrainTimeout)
	ctx, stop := context.WithTimeoutCause(begun, c.DrainTimeout, errors.New("drain timeout"))
	defer stop()
	s.Shutdown(ctx)
}

// untilStopped returns the signal that asks the server to stop. A hangup does not:
// logrotate and `systemctl reload` send it to have files read again, and so does a
// terminal that is closed. To stop would free every lock.
func untilStopped(signals, hangups <-chan os.Signal, hangup func(os.Signal)) os.Signal {
	for {
		select {
		case got := <-signals:
			return got
		case got := <-hangups:
			hangup(got)
		}
	}
}

// readAgain has the server look at its files now. What it finds, it logs.
func readAgain(log *slog.Logger, s *server.Server, got os.Signal) {
	if err := s.Reload(); errors.Is(err, server.ErrNoFiles) {
		log.Info("there is nothing to read again: going on", "signal", got)
	} else if err == nil {
		log.Info("the files are up to date", "signal", got)
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

// announce logs where the server listens, and warnings when others than this
// machine can reach it and need not show who they are.
func announce(log *slog.Logger, addrs []server.Addr, adminTLS bool) {
	attrs := []any{"version", server.Version, "pid", os.Getpid()}
	var open, rates, clear, admin []string
	for _, a := range addrs {
		if n := len(attrs); attrs[n-2] == a.Transport { // JSON has each key once
			attrs[n-1] = attrs[n-1].(string) + "," + a.String()
		} else {
			attrs = append(attrs, a.Transport, a.String())
		}
		tcp, ok := a.Addr.(*net.TCPAddr)
		switch {
		case !ok || tcp.IP.IsLoopback():
		case a.Transport == "admin" && !a.Asks:
			admin = append(admin, a.String())
		case a.Transport == "admin" && !adminTLS:
			clear = append(clear, a.String())
		case a.Transport == "http" && !a.Asks:
			rates = append(rates, a.String())
		case !a.Asks:
			open = append(open, a.String())
		case a.Transport == "tcp" || a.Transport == "websocket" || a.Transport == "http":
			clear = append(clear, a.String())
		}
	}
	log.Info("listening", attrs...)
	if len(open) > 0 {
		log.Warn("anybody who reaches these addresses can take and release locks: "+
			"have clients show who they are (--auth-file, or --tls with --tls-client-ca), or keep strangers out by a firewall",
			"addrs", strings.Join(open, " "))
	}
	if len(rates) > 0 {
		log.Warn("anybody who reaches these addresses can use up rates, so that others are refused: "+
			"have those who ask show who they are (--auth-file), or keep strangers out by a firewall",
			"addrs", strings.Join(rates, " "))
	}
	if len(clear) > 0 {
		log.Warn("tokens for these addresses cross the network unencrypted: whoever sees them there can use them",
			"addrs", strings.Join(clear, " "))
	}
	if len(admin) > 0 {
		log.Warn("anybody who reaches the admin address can see how the server is used, and keep it busy: "+
			"keep it behind a firewall",
			"addrs", strings.Join(admin, " "))
	}
}

// port returns the number for the pid file: the first TCP port for clients.
func port(addrs []server.Addr) int {
	for _, a := range addrs {
		if tcp, ok := a.Addr.(*net.TCPAddr); ok && a.Transport != "admin" && a.Transport != "http" {
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
