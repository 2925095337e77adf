// Package tlstest makes certificates for tests: an authority, and those of servers
// and clients, valid or not, as values and as files. It knows nothing of lockd.
package tlstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// An Authority issues certificates.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	made := a.issue(template, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	a.cert, a.key = made.Leaf, made.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

// Server makes a server's certificate for some names and addresses.
func (a *Authority) Server(hosts ...string) tls.Certificate {
	a.t.Helper()
	return a.ServerFrom(time.Now().Add(-time.Hour), time.Now().Add(time.Hour), hosts...)
}

// ServerFrom makes one that is valid within some time.
func (a *Authority) ServerFrom(begin, end time.Time, hosts ...string) tls.Certificate {
	a.t.Helper()
	of := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			of.IPAddresses = append(of.IPAddresses, ip)
		} else {
			of.DNSNames = append(of.DNSNames, h)
		}
	}
	return a.issue(of, begin, end)
}

// Client makes a client's certificate.
func (a *Authority) Client(name string) tls.Certificate {
	a.t.Helper()
	return a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
}

// Pool has the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// File writes the authority's certificate into a file, and returns its path.
func (a *Authority) File() string {
	a.t.Helper()
	path := filepath.Join(a.t.TempDir(), "ca.pem")
	a.write(path, &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
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
	secret, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(cert, &pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	a.write(key, &pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

func (a *Authority) write(path string, block *pem.Block) {
	a.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *Authority) issue(of *x509.Certificate, begin, end time.Time) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	of.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	of.NotBefore, of.NotAfter = begin, end
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = of, key
	}
	der, err := x509.CreateCertificate(rand.Reader, of, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
