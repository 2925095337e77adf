package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// membership is what makes a server a node of a cluster.
type membership struct {
	Cluster   filled `placeholder:"URL" help:"Be a node of the cluster that this etcd keeps: etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds:// for TLS with the system's authorities. lockd cluster init makes one."`
	Node      filled `placeholder:"NAME" help:"The node's name, which lockd cluster shows and drains (the machine's)."`
	Advertise filled `placeholder:"HOST:PORT" help:"Where the other nodes, and clients that know the map, reach this one: an address of --tcp, or tls://HOST:PORT for one of --tls."`
	ensemble
	NodeTokenFile filled `placeholder:"FILE" help:"Authenticate to other nodes with the token in this file, which has the role node there."`
	NodeCA        filled `name:"node-ca" placeholder:"FILE" help:"With tls://: trust the authorities whose certificates are in this file, in the place of the system's."`
	NodeCert      filled `placeholder:"FILE" help:"With tls://: the certificate to show to other nodes, if they ask for one."`
	NodeKey       filled `placeholder:"FILE" help:"The key of --node-cert."`

	credentials credentials
}

// nodeFlags has what is said of credentials say it of a node's.
var nodeFlags = strings.NewReplacer(
	"--tls-ca and --tls-server-name need tls:// or wss://", "--node-ca needs tls://",
	"the server's certificate", "its certificate", "the server", "the node", "--server ", "--advertise ",
	"--tls-server-name", "--advertise there", "--tls-", "--node-", "--token-file", "--node-token-file",
)

// check tells what is missing or wrong.
func (m *membership) check() error {
	if m.Cluster == "" {
		for flag, is := range map[string]filled{"node": m.Node, "advertise": m.Advertise} {
			if is != "" {
				return fmt.Errorf("--%s is for a node of a cluster: --cluster says which", flag)
			}
		}
		return nil
	}
	if err := m.open(m.Cluster); err != nil {
		return err
	}
	if m.Advertise == "" {
		return errors.New("--cluster needs --advertise, too: where the other nodes reach this one")
	}
	if m.Node == "" {
		name, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("--node: the machine has no name: %w", err)
		}
		m.Node = filled(name)
	}
	target := string(m.Advertise)
	if err := (client.Options{Target: target}).Validate(); err != nil || strings.Contains(target, "ws://") || strings.Contains(target, "wss://") || strings.HasPrefix(target, "unix:") {
		return fmt.Errorf("--advertise: want HOST:PORT or tls://HOST:PORT, not %q", target)
	}
	m.credentials = credentials{TokenFile: m.NodeTokenFile, CA: m.NodeCA, Cert: m.NodeCert, Key: m.NodeKey}
	if err := m.credentials.read(target); err != nil {
		return errors.New(nodeFlags.Replace(err.Error()))
	}
	return nil
}

// dialTimeout is how long it may take to connect to another node.
const dialTimeout = 5 * time.Second

// option is nil where the server is alone.
func (m *membership) option(admin string) *server.Cluster {
	if m.Cluster == "" {
		return nil
	}
	m.warn()
	m.credentials.warn()
	return &server.Cluster{
		Store: m.store, Name: string(m.Node), Addr: string(m.Advertise), Admin: admin, Token: m.credentials.token,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := client.Connect(ctx, client.Options{Target: addr, TLS: m.credentials.tls, ConnectTimeout: dialTimeout})
			if flags := remedy(err); err != nil && flags != nil {
				return nil, errors.New(nodeFlags.Replace(flags.Error()))
			}
			return conn, err
		},
	}
}
