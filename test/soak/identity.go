//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/nylen/lockd/pkg/client"
)

// The files that server and clients share.
const (
	serverCert = "server.pem"
	serverKey  = "server-key.pem"
	serverCA   = "ca.pem"
	clientCA   = "client-ca.pem"
	authFile   = "auth"
)

// An identity is who a client says it is, and how.
type identity struct {
	name string
	role string // as in the auth file; "": it is let do nothing
	how  string // byToken and its kind
}

const (
	byToken = "token"
	byCert  = "certificate"
	byUID   = "user"
	byWrong = "wrong token" // which nobody has
	byNone  = "nothing"
	unasked = "not asked" // where the server asks nobody
)

// prefix is of all names that the role lock may use here.
const prefix = "soak/"

// identities are all of them. Within TLS everybody shows a certificate, which the
// auth file does not name for most: they have to say more.
var identities = []identity{
	{"porter", "lock:" + prefix, byToken},
	{"waiter", "lock:" + prefix, byToken},
	{"locksmith", "lock:" + prefix, byCert},
	{"neighbor", "lock:" + prefix, byUID},
	{"reader", "read", byToken},
	{"observer", "read", byCert},
	{"boss", "admin", byToken},
	{"owner", "admin", byCert},
	{"liar", "", byWrong},
	{"nobody", "", byNone},
}

// everybody is who comes to an open server.
var everybody = []identity{{"anybody", "admin", unasked}}

func (a addresses) identities() []identity {
	if a.Open {
		return everybody
	}
	return identities
}

// stranger is the name in the certificate of those who are not known by it.
const stranger = "stranger"

// title is its role and how it shows who it is.
func (id identity) title() string {
	switch {
	case id.role == "":
		return "nobody, with " + id.how
	case id.how == unasked:
		return "anybody, " + id.how
	}
	return id.role + " by " + id.how
}

// is tells whether the role is one of some: lock, read, admin or "".
func (id identity) is(roles ...string) bool {
	role, _, _ := strings.Cut(id.role, ":")
	return slices.Contains(roles, role)
}

// comesBy tells whether it can be who it is over a transport: over a unix socket
// everybody here is known by the user.
func (id identity) comesBy(t transport) bool {
	switch id.how {
	case byToken, unasked:
		return true
	case byCert:
		return t.secure
	case byUID:
		return t.name == "unix"
	}
	return t.name != "unix"
}

// cert is the name in the certificate that it shows.
func (id identity) cert() string {
	if id.how == byCert {
		return id.name
	}
	return stranger
}

// token reads the token that it has now.
func (id identity) token(at addresses) (string, error) {
	if id.how == byWrong {
		return "not-a-token", nil
	}
	text, err := os.ReadFile(at.file(id.name + ".token"))
	return strings.TrimSpace(string(text)), err
}

// tls returns what it knows about TLS now.
func (id identity) tls(at addresses) (*tls.Config, error) {
	text, err := os.ReadFile(at.file(serverCA))
	if err != nil {
		return nil, err
	}
	own := at.file(id.cert() + ".pem")
	both, err := os.ReadFile(own) // once: it may be replaced
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(both, both)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pair, nil
	}}, nil
}

// A caller is somebody who comes by some transport.
type caller struct {
	identity
	transport
	from net.IP // its address; nil: any
}

func (c caller) String() string { return c.identity.name + " by " + c.transport.name }

// options are those for package client.
func (c caller) options(at addresses) (o client.Options, err error) {
	o.Target = c.target(at)
	if c.how == byToken {
		o.Token = client.TokenFile(at.file(c.identity.name + ".token"))
	}
	if c.secure {
		own := at.file(c.cert() + ".pem")
		o.TLS, err = client.TLSFiles{CA: at.file(serverCA), Cert: own, Key: own}.Config()
	}
	if c.from != nil {
		_, address, _ := strings.Cut(o.Target, "://")
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.from}}
		o.Dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", address) }
	}
	return o, err
}

// anybody picks a caller with one of some roles.
func (a addresses) anybody(rnd *rand.Rand, roles ...string) caller {
	for all := a.identities(); ; {
		c := caller{identity: all[rnd.IntN(len(all))], transport: transports[rnd.IntN(len(transports))]}
		if c.is(roles...) && c.comesBy(c.transport) {
			return c
		}
	}
}

// present shows the token that the caller has now, and again if there was a new one
// meanwhile.
func (l *line) present() error {
	for range 5 {
		token, err := l.who.token(l.at)
		if err != nil {
			return err
		}
		if token == l.token {
			return breach{fmt.Errorf("%v: the server does not know the token", l.who)}
		}
		l.token = token
		request, want := "auth "+token, "1 ok"
		if l.two {
			request, want = "0 "+request, "0 "+want
		}
		got, err := l.say(request)
		if err != nil {
			return err
		}
		if got == want {
			return nil
		}
		if !strings.HasSuffix(got, "0 Auth Failed") {
			return breach{fmt.Errorf("%v: auth is answered %q", l.who, got)}
		}
	}
	return breach{fmt.Errorf("%v: the server knows none of the tokens", l.who)}
}

// hear checks that a reply tells nothing that is not for the caller's role: what the
// guardian holds, who that is, or any list.
func (l *line) hear(got string) error {
	if l.who.is("read", "admin") {
		return nil
	}
	for _, secret := range []string{secretName, guardian, "map[", "command_"} {
		if strings.Contains(got, secret) {
			return breach{fmt.Errorf("%v, whose role is %q, is told %q", l.who, l.who.role, got)}
		}
	}
	return nil
}

// What only those who may look at all should ever hear of.
const (
	secretName = "secret/plans"
	guardian   = "guardian-of-plans"
)

// guard holds what is secret until ctx is done.
func guard(ctx context.Context, at addresses, rnd *rand.Rand) error {
	l, err := connect(at, at.anybody(rnd, "admin"), true)
	if err != nil {
		return err
	}
	defer l.Close()
	for _, request := range []string{"iam " + guardian, "g " + secretName, "sg " + secretName} {
		if n, text, err := l.ask(0, request); n == 0 {
			return fmt.Errorf("%s is answered %q, %v", request, text, err)
		}
	}
	<-ctx.Done()
	for _, request := range []string{"t " + secretName, "r " + secretName} {
		if n, text, err := l.ask(0, request); n == 0 {
			return breach{fmt.Errorf("after all this time %s is answered %q, %v", request, text, err)}
		}
	}
	return nil
}
