package server_test

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/tlstest"
)

// authority is whom the tests' clients and servers trust.
var authority = sync.OnceValue(newAuthority)

func newAuthority() *certs.Authority {
	a, err := certs.NewAuthority("tests", time.Now(), time.Now().Add(24*time.Hour))
	if err != nil {
		panic(err)
	}
	return a
}

var serverCert = sync.OnceValue(func() tls.Certificate {
	return tlstest.Certificate(authority().Server([]string{"127.0.0.1", "localhost"}, time.Now(), time.Now().Add(time.Hour)))
})

// clientCert makes a certificate for a client.
func clientCert(a *certs.Authority, name string) tls.Certificate {
	return tlstest.Certificate(a.Client(name, time.Now(), time.Now().Add(time.Hour)))
}

// anybody is what a server has that asks for no certificates.
func anybody() *tls.Config { return &tls.Config{Certificates: []tls.Certificate{serverCert()}} }

// trusting is what a client has that knows the authority, with its certificates.
func trusting(own ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: tlstest.Pool(authority()), Certificates: own, ServerName: "localhost"}
}

// certFiles are a server's files.
type certFiles struct {
	tb                 testing.TB
	dir, cert, key, ca string
}

func newCertFiles(tb testing.TB) *certFiles {
	dir := tb.TempDir()
	f := &certFiles{tb, dir, filepath.Join(dir, "server.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "ca.pem")}
	f.serve(authority().Server([]string{"localhost"}, time.Now(), time.Now().Add(30*24*time.Hour)))
	f.put(f.ca, authority().Pair.Cert)
	return f
}

// serve puts a server's certificate in its place.
func (f *certFiles) serve(p certs.Pair, err error) {
	f.tb.Helper()
	must(f.tb, err)
	f.put(f.cert, p.Cert)
	f.put(f.key, p.Key)
}

// put replaces a file.
func (f *certFiles) put(path string, content []byte) {
	f.tb.Helper()
	must(f.tb, os.WriteFile(path+".new", content, 0o600))
	must(f.tb, os.Rename(path+".new", path))
}

func mustPair(p certs.Pair, err error) certs.Pair {
	if err != nil {
		panic(err)
	}
	return p
}
