package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"net"
	"time"
)

// An Authority signs certificates, for trying things out: who has more than a
// handful of machines has one already, or should. All keys are ECDSA P-256.
type Authority struct {
	Pair
	cert *x509.Certificate
	key  crypto.Signer
}

// A Pair is a certificate and its key, in PEM.
type Pair struct{ Cert, Key []byte }

// skew is how far behind ours others' clocks may be.
const skew = time.Hour

// NewAuthority makes one.
func NewAuthority(name string, begin, end time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             begin.Add(-skew),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	pair, err := sign(template, template, key, key)
	if err != nil {
		return nil, err
	}
	return ReadAuthority(pair)
}

// ReadAuthority returns one that was made before.
func ReadAuthority(pair Pair) (*Authority, error) {
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return nil, err
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok || !cert.Leaf.IsCA {
		return nil, fmt.Errorf("%s is no authority", cert.Leaf.Subject)
	}
	return &Authority{Pair: pair, cert: cert.Leaf, key: key}, nil
}

// Server makes a certificate for a server that is reached by some names and
// addresses.
func (a *Authority) Server(hosts []string, begin, end time.Time) (Pair, error) {
	t := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	if len(hosts) > 0 && len(hosts[0]) <= MaxName {
		t.Subject.CommonName = hosts[0]
	}
	return a.issue(t, begin, end)
}

// MaxName is how long a common name may be (RFC 5280, ub-common-name).
const MaxName = 64

// Client makes a certificate for a client.
func (a *Authority) Client(name string, begin, end time.Time) (Pair, error) {
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, begin, end)
}

// issue signs a certificate, which ends with the authority at the latest.
func (a *Authority) issue(t *x509.Certificate, begin, end time.Time) (Pair, error) {
	t.NotBefore, t.NotAfter = begin.Add(-skew), end
	if a.cert.NotAfter.Before(end) {
		t.NotAfter = a.cert.NotAfter
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.BasicConstraintsValid = true
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	return sign(t, a.cert, key, a.key)
}

func sign(t, parent *x509.Certificate, key *ecdsa.PrivateKey, by crypto.Signer) (Pair, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
	if err != nil {
		return Pair{}, err
	}
	return PairOf(tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key})
}

// PairOf writes a certificate, without those behind it, and its key.
func PairOf(c tls.Certificate) (Pair, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return Pair{}, err
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}),
	}, nil
}
