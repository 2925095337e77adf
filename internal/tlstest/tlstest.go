// Package tlstest makes certificates for tests: an authority, and those of servers
// and clients, valid or not, as values and as files.
package tlstest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
)

// An Authority issues certificates.
type Authority struct {
	t    testing.TB
	made *certs.Authority
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	made, err := certs.NewAuthority(name, time.Now(), time.Now().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{t: t, made: made}
}

// Server makes a server's certificate for some names and addresses.
func (a *Authority) Server(hosts ...string) tls.Certificate {
	a.t.Helper()
	return a.ServerFrom(time.Now(), time.Now().Add(time.Hour), hosts...)
}

// ServerFrom makes one that is valid from an hour before a time to another.
func (a *Authority) ServerFrom(begin, end time.Time, hosts ...string) tls.Certificate {
	a.t.Helper()
	return Certificate(a.made.Server(hosts, begin, end))
}

// Client makes a client's certificate.
func (a *Authority) Client(name string) tls.Certificate {
	a.t.Helper()
	return Certificate(a.made.Client(name, time.Now(), time.Now().Add(time.Hour)))
}

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool { return Pool(a.made) }

// File writes the authority's certificate into a file, and returns its path.
func (a *Authority) File() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	a.write(path, a.made.Pair.Cert)
	return path
}

// Files writes a certificate and its key into files, and returns their paths.
func (a *Authority) Files(c tls.Certificate) (cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.WriteFiles(c, cert, key)
	return cert, key
}

// WriteFiles writes a certificate and its key into these files.
func (a *Authority) WriteFiles(c tls.Certificate, cert, key string) {
	a.t.Helper()
	pair, err := certs.PairOf(c)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(cert, pair.Cert)
	a.write(key, pair.Key)
}

func (a *Authority) write(path string, text []byte) {
	a.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// Certificate turns what came of making a certificate into one. It panics if nothing
// came of it.
func Certificate(p certs.Pair, err error) tls.Certificate {
	if err != nil {
		panic(err)
	}
	c, err := tls.X509KeyPair(p.Cert, p.Key)
	if err != nil {
		panic(err)
	}
	return c
}

// Pool has an authority alone.
func Pool(a *certs.Authority) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.Pair.Cert)
	return pool
}
