package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// TLSFiles name what a client needs for TLS, in files with PEM blocks. The zero
// value is for a server whose certificate is from an authority that the system
// trusts, and that wants none of its clients.
type TLSFiles struct {
	// CA has the certificates of the authorities that are trusted, in the place of
	// the system's. It is read once.
	CA string

	// Cert and Key are the client's own certificate, with those between it and its
	// authority behind it, and its key, in another file or the same. They are read
	// again for each connection, and so may be replaced while the program runs;
	// unless one of them is a pipe, which can be read once only. Of two files that are
	// replaced one after the other a connection may find one new and one old, and fail:
	// one file that has both, and is renamed over the old one, always fits.
	Cert, Key string

	// ServerName is the name that the server's certificate has to have. Empty means
	// HOST of the target.
	ServerName string
}

// Config returns what Options.TLS wants to have. The files are read, and the error
// says what is wrong with which of them.
func (f TLSFiles) Config() (*tls.Config, error) {
	config := &tls.Config{ServerName: f.ServerName}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("lockd: CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("lockd: CA: there is no certificate in %s", f.CA)
		}
	}
	switch {
	case f.Cert == "" && f.Key == "":
		return config, nil
	case f.Key == "":
		return nil, errors.New("lockd: a client certificate needs its key")
	case f.Cert == "":
		return nil, errors.New("lockd: a client's key needs its certificate")
	}
	first, err := f.certificate()
	if err != nil {
		return nil, err
	}
	current := f.certificate
	if !isRegular(f.Cert) || !isRegular(f.Key) {
		current = func() (*tls.Certificate, error) { return first, nil }
	}
	// A server names the authorities that it knows, and package tls would not show
	// it a certificate of another one. The server's refusal says more.
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return current() }
	return config, nil
}

// For returns Config for a target within TLS, and nil for another one: a client
// certificate means nothing there. That a CA or a server's name was given for it is
// an error, lest somebody believe in TLS that is not there; but not for a unix
// socket, whose other end is on this machine. Of several targets it goes for each.
func (f TLSFiles) For(target string) (*tls.Config, error) {
	if target == "" {
		target = DefaultTarget
	}
	all, err := parseTargets(target)
	if err != nil {
		return nil, err
	}
	secure := false
	for i, to := range all {
		switch {
		case to.secure:
			secure = true
		case to.network != "unix" && (f.CA != "" || f.ServerName != ""):
			return nil, fmt.Errorf("lockd: target %q: a CA and a server's name need tls:// or wss://", splitTargets(target)[i])
		}
	}
	if !secure {
		return nil, nil
	}
	return f.Config()
}

func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err != nil || info.Mode().IsRegular()
}

func (f TLSFiles) certificate() (*tls.Certificate, error) {
	cert, err := os.ReadFile(f.Cert)
	key := cert // of one file that has both: it may be another one in a moment
	if err == nil && f.Key != f.Cert {
		key, err = os.ReadFile(f.Key)
	}
	var c tls.Certificate
	if err == nil {
		c, err = tls.X509KeyPair(cert, key)
	}
	if err != nil {
		return nil, fmt.Errorf("lockd: client certificate %s with key %s: %s", f.Cert, f.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &c, nil
}
