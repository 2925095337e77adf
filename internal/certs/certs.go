// Package certs has what a server shows and asks for within TLS: its
// certificate, and the authority of its clients'. They are in files, which are
// read again when they change; connections that are there stay as they are, the
// next handshake has what is new. It knows nothing of listeners.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/reload"
)

// Files name the files, in PEM.
type Files struct {
	Cert       string // the server's certificate, and those between it and its authority's
	Key        string
	ClientCA   string // authorities of clients' certificates; empty: clients show none
	MinVersion uint16 // tls.VersionTLS12 or tls.VersionTLS13
}

// A FileError tells what is wrong with one of the files.
type FileError struct {
	Path string
	text string
	err  error
}

func (e *FileError) Error() string { return e.text }

// Unwrap returns what the system has to say, if that is what is wrong.
func (e *FileError) Unwrap() error { return e.err }

func fileError(path, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &FileError{path, err.Error(), errors.Unwrap(err)}
}

// A Use is what connections are for.
type Use int

// The uses. They differ in what a listener agrees to by ALPN. One for lines
// refuses who offers other protocols and not this one, as every browser does:
// what a page has it send is not to be taken for requests.
const (
	Lines     Use = iota // lockd's own protocol, which need not be named
	WebSocket            // HTTP/1.1
	Admin                // HTTP/1.1; clients need not have a certificate, lest probes need one
	uses
)

// suites are those of TLS 1.2 with forward secrecy and authenticated encryption.
// TLS 1.3 has no others.
var suites = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// A Store is what is in the files. Its methods may be called by any goroutine.
type Store struct {
	names   Files
	log     *slog.Logger
	files   *reload.Files
	current atomic.Pointer[loaded]
	changed chan struct{}
	stop    chan struct{}
	ended   sync.WaitGroup
}

// loaded is what was read together.
type loaded struct {
	configs [uses]*tls.Config
	ends    []end
}

// Open reads the files for the first time, and again whenever they change, until
// Close. The log is told, also of certificates that end soon.
func Open(names Files, log *slog.Logger) (*Store, error) {
	s := &Store{names: names, log: log, changed: make(chan struct{}, 1), stop: make(chan struct{})}
	paths := []string{names.Cert, names.Key}
	if names.ClientCA != "" {
		paths = append(paths, names.ClientCA)
	}
	var err error
	if s.files, err = reload.Open("certificate", paths, log, s.load); err != nil {
		return nil, err
	}
	select {
	case <-s.changed: // by the first load: watch begins with a look
	default: // by another one, which it has not seen
	}
	s.ended.Go(s.watch)
	return s, nil
}

// Check looks now whether the files have changed, and tells what is wrong with
// what they have now.
func (s *Store) Check() error { return s.files.Check() }

// Close ends the looking.
func (s *Store) Close() {
	s.files.Close()
	close(s.stop)
	s.ended.Wait()
}

// Config returns a configuration for listeners. It stays good when the files
// change.
func (s *Store) Config(use Use) *tls.Config {
	return &tls.Config{
		MinVersion: s.names.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return s.current.Load().configs[use], nil
		},
	}
}

func (s *Store) load() error {
	cert, err := readPair(s.names.Cert, s.names.Key)
	if err != nil {
		return err
	}
	l := &loaded{}
	if l.ends, err = endsOf(s.names.Cert, cert); err != nil {
		return err
	}
	base := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   s.names.MinVersion,
		CipherSuites: suites,
		// A session that is resumed is one whose client's certificate nobody looks at
		// again, whatever has become of its authority. All that it would save is a
		// signature or two at the beginning of connections that are meant to last.
		SessionTicketsDisabled: true,
	}
	if s.names.ClientCA != "" {
		authorities, err := readCertificates(s.names.ClientCA)
		if err != nil {
			return err
		}
		base.ClientCAs = x509.NewCertPool()
		for _, a := range authorities {
			base.ClientCAs.AddCert(a)
		}
		base.ClientAuth = tls.RequireAndVerifyClientCert
		l.ends = append(l.ends, lastEnd(s.names.ClientCA, authorities))
	}
	for use, protocol := range [uses]string{Lines: "lockd", WebSocket: "http/1.1", Admin: "http/1.1"} {
		c := base.Clone()
		c.NextProtos = []string{protocol}
		if Use(use) == Admin && c.ClientCAs != nil {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
		l.configs[use] = c
	}
	s.current.Store(l)
	s.warnOfMode()
	select {
	case s.changed <- struct{}{}:
	default:
	}
	return nil
}

// Expiry is when the server's certificate ends, or one between it and its
// authority's, if that is sooner.
func (s *Store) Expiry() time.Time { return s.current.Load().ends[0].at }

// readPair reads a certificate and its key, and says what is wrong in terms of
// the files.
func readPair(certFile, keyFile string) (tls.Certificate, error) {
	certPEM, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	switch {
	case err == nil:
		return cert, nil
	case strings.Contains(string(keyPEM), "ENCRYPTED"):
		return cert, fileError(keyFile, "%s is encrypted, and there is nobody to be asked for its passphrase: "+
			"decrypt it (openssl pkey -in %[1]s -out NEW) and have it readable by lockd alone", keyFile)
	case strings.Contains(err.Error(), "does not match"):
		return cert, fileError(keyFile, "the key in %s is not that of the certificate in %s", keyFile, certFile)
	}
	return cert, fileError(certFile, "cannot use the certificate in %s with the key in %s: %s", certFile, keyFile, strings.TrimPrefix(err.Error(), "tls: "))
}

// readCertificates reads all certificates of a file, at least one.
func readCertificates(file string) (all []*x509.Certificate, err error) {
	rest, err := readFile(file)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fileError(file, "%s: certificate %d: %w", file, len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fileError(file, "%s has no certificate in it (PEM, -----BEGIN CERTIFICATE-----)", file)
	}
	return all, nil
}

func readFile(name string) ([]byte, error) {
	b, err := reload.Read(name)
	if p := new(fs.PathError); errors.As(err, &p) {
		return nil, fileError(name, "cannot read %s: %w", name, p.Err)
	}
	return b, err
}
