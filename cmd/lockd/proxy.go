package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// proxyCmd serves clients, and asks a server for what they want.
type proxyCmd struct {
	serving
	Server         filled        `short:"s" placeholder:"TARGET" required:"" group:"Upstream" help:"The server that has the locks: tcp://HOST:PORT, HOST:PORT, PORT, tls://HOST:PORT or unix:///PATH. Several nodes of a cluster may stand with commas between: the proxy stays with one as long as that can be reached."`
	ConnectTimeout time.Duration `placeholder:"TIME" default:"5s" group:"Upstream" help:"How long connecting to it may take (${default})."`
	Patience       time.Duration `placeholder:"TIME" default:"10s" group:"Upstream" help:"While it cannot be reached, for how long requests that may wait do, gw and sgw, and all of protocol 2, before they are answered '0 Server Recovering' (${default}). The others are within 100 ms: clients take a later answer for the next one's."`
	TokenFile      filled        `placeholder:"FILE" group:"Upstream" help:"Authenticate with the token in this file."`
	CA             filled        `name:"tls-ca" placeholder:"FILE" group:"Upstream" help:"With tls://: trust the authorities whose certificates are in this file, in the place of the system's."`
	Cert           filled        `name:"client-cert" placeholder:"FILE" group:"Upstream" help:"With tls://: the proxy's own certificate, for a server that asks for one."`
	Key            filled        `name:"client-key" placeholder:"FILE" group:"Upstream" help:"The key of --client-cert."`
	ServerName     filled        `name:"tls-server-name" placeholder:"NAME" group:"Upstream" help:"The name that the server's certificate has to be for, if it is not the host of --server."`

	credentials credentials
}

func (*proxyCmd) Help() string {
	return `Serves clients of this machine as lockd does, and has their locks of another
lockd, over one connection. What they hold survives that this connection breaks,
that the server restarts (with --state there), and nothing of that needs a word of
them: clients of any kind and age go on with their own connection.

	lockd proxy --unix /run/lockd-proxy.sock -s tls://locks.example.com:9996

The time that is survived is the server's --max-keep. It has to be as long as
--dead-peer-timeout here at least.

Lists of locks (d, sd, dump, look, losses), who and kick are the server's; q,
stats, clients and top, metrics and the page are the proxy's own.`
}

// Validate is called by kong.
func (c *proxyCmd) Validate() error {
	target := string(c.Server)
	err := client.Options{Target: target}.Validate()
	if err == nil && (strings.Contains(target, "ws://") || strings.Contains(target, "wss://")) {
		err = errors.New("a proxy's server is not reached by WebSocket: want tcp://, tls:// or unix://")
	}
	if err != nil {
		return fmt.Errorf("--server: %s", strings.TrimPrefix(err.Error(), "lockd: target "))
	}
	c.credentials = credentials{TokenFile: c.TokenFile, CA: c.CA, Cert: c.Cert, Key: c.Key, ServerName: c.ServerName}
	return c.credentials.read(target)
}

// upstream is how the server is reached.
func (c *proxyCmd) upstream() *server.Upstream {
	targets, _ := client.Targets(string(c.Server)) // which are checked
	dialer := &stickyDialer{
		targets: targets, opts: client.Options{TLS: c.credentials.tls, ConnectTimeout: c.ConnectTimeout},
	}
	rand.Shuffle(len(targets), func(i, j int) { targets[i], targets[j] = targets[j], targets[i] })
	return &server.Upstream{
		Target:   string(c.Server),
		Dial:     dialer.dial,
		Token:    c.credentials.token,
		Patience: c.Patience,
	}
}

// A stickyDialer connects to one of several targets, and stays with that: what the server
// keeps for the proxy is there. Only when it cannot be reached the next one is tried.
type stickyDialer struct {
	opts client.Options

	mu      sync.Mutex // guards what follows
	targets []string   // the one to stay with first
}

func (d *stickyDialer) dial(ctx context.Context) (net.Conn, error) {
	d.mu.Lock()
	targets := slices.Clone(d.targets)
	d.mu.Unlock()
	var failed error
	for i, target := range targets {
		opts := d.opts
		opts.Target = target
		conn, err := client.Connect(ctx, opts)
		if err == nil {
			d.mu.Lock()
			d.targets = slices.Concat(targets[i:], targets[:i])
			d.mu.Unlock()
			return conn, nil
		}
		if failed == nil {
			failed = err
		}
	}
	return nil, failed
}

// Run serves until a signal asks to stop.
func (c *proxyCmd) Run() error {
	c.credentials.warn()
	opts := c.options()
	opts.Upstream = c.upstream()
	opts.MaxKeep = -1
	return c.run(opts, c.await)
}

// await waits for the server for a moment. One that will never do is an error; one that
// is not there yet may come.
func (c *proxyCmd) await(log *slog.Logger, s *server.Server) error {
	ctx, stop := context.WithTimeout(context.Background(), c.ConnectTimeout)
	defer stop()
	err := s.AwaitUpstream(ctx)
	if wrong := new(server.UpstreamError); errors.As(err, &wrong) {
		return fmt.Errorf("--server %s: %s", c.Server, wrong.Reason)
	}
	if err != nil {
		log.Warn("serving without the server, which cannot be reached yet", "upstream", string(c.Server))
	}
	return nil
}
