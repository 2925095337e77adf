package server

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/conn"
)

// errNoCertificate is what serving TLS takes and the options do not name.
var errNoCertificate = errors.New("needs the server's certificate and its key: tls-cert and tls-key (`lockd cert` makes some to try it)")

// completeTLS fills in the defaults of what is about TLS and tells what is wrong.
func (o *Options) completeTLS() error {
	if o.TLSConfig != nil {
		if o.TLSCert != "" || o.TLSKey != "" || o.TLSClientCA != "" || o.TLSMinVersion != 0 {
			return optionError("tls-cert", "there is a TLSConfig already: give either that or files")
		}
	} else if o.TLSMinVersion == 0 {
		o.TLSMinVersion = tls.VersionTLS13
	}
	switch {
	case o.TLSConfig == nil && o.TLSMinVersion != tls.VersionTLS12 && o.TLSMinVersion != tls.VersionTLS13:
		return optionError("tls-min-version", "must be 1.2 or 1.3, not %s", tls.VersionName(o.TLSMinVersion))
	case o.TLSCert != "" && o.TLSKey == "":
		return optionError("tls-cert", "needs the certificate's key, tls-key, too")
	case o.TLSKey != "" && o.TLSCert == "":
		return optionError("tls-key", "needs the key's certificate, tls-cert, too")
	case o.TLSClientCA != "" && o.TLSCert == "":
		return &OptionError{"tls-client-ca", errNoCertificate}
	case o.AdminTLS && o.Admin == "":
		return optionError("admin-tls", "there is no admin address")
	case o.hasTLS():
	case len(o.TLS) > 0:
		return &OptionError{"tls", errNoCertificate}
	case len(o.WSS) > 0:
		return &OptionError{"wss", errNoCertificate}
	case o.AdminTLS:
		return &OptionError{"admin-tls", errNoCertificate}
	}
	return nil
}

// hasTLS tells whether the server can serve TLS.
func (o *Options) hasTLS() bool { return o.TLSConfig != nil || o.TLSCert != "" }

// wantsCertificates tells whether clients within TLS have to show certificates.
func (o *Options) wantsCertificates() bool {
	return o.TLSClientCA != "" || o.TLSConfig != nil && o.TLSConfig.ClientAuth == tls.RequireAndVerifyClientCert
}

// roomForConnections returns how many connections the limit on open files leaves
// room for, beside TLS handshakes.
func (o *Options) roomForConnections() int {
	allowed := openFiles(o.Admin != "")
	if o.hasTLS() {
		allowed = max(1, allowed-maxHandshakes(allowed))
	}
	return allowed
}

// maxHandshakes is how many TLS handshakes there are at a time where so many files
// may be open.
func maxHandshakes(files int) int { return max(8, min(conn.MaxHandshakes, files/8)) }

// openCertificates reads the certificates, if the options name some.
func (s *Server) openCertificates() error {
	if s.opts.TLSCert == "" {
		return nil
	}
	store, err := certs.Open(certs.Files{
		Cert: s.opts.TLSCert, Key: s.opts.TLSKey, ClientCA: s.opts.TLSClientCA, MinVersion: s.opts.TLSMinVersion,
	}, s.opts.Logger)
	if err != nil {
		option := "tls-cert"
		if f := new(certs.FileError); errors.As(err, &f) {
			switch f.Path {
			case s.opts.TLSKey:
				option = "tls-key"
			case s.opts.TLSClientCA:
				option = "tls-client-ca"
			}
		}
		return &OptionError{option, err}
	}
	s.certs = store
	s.files = append(s.files, store)
	return nil
}

// tlsConfig is for a listener of one kind, or nil.
func (s *Server) tlsConfig(use certs.Use) *tls.Config {
	switch {
	case s.certs != nil:
		return s.certs.Config(use)
	case s.opts.TLSConfig != nil:
		c := s.opts.TLSConfig.Clone()
		if use != certs.Lines && len(c.NextProtos) == 0 {
			c.NextProtos = []string{"http/1.1"}
		}
		return c
	}
	return nil
}

// certificateExpiry is when the server's certificate ends; zero if it has none, or
// not from files.
func (s *Server) certificateExpiry() time.Time {
	if s.certs == nil {
		return time.Time{}
	}
	return s.certs.Expiry()
}

// ServeTLS serves the line protocol within TLS to the connections of a listener
// of plain connections, until Shutdown, and closes it. The options have to name
// a certificate. It returns as Serve does.
func (s *Server) ServeTLS(l net.Listener) error { return s.serveSecure(l, certs.Lines) }

// ServeWSS serves WebSocket connections within TLS, on any path, likewise.
func (s *Server) ServeWSS(l net.Listener) error { return s.serveSecure(l, certs.WebSocket) }

func (s *Server) serveSecure(l net.Listener, use certs.Use) error {
	config := s.tlsConfig(use)
	if config == nil {
		l.Close()
		return &OptionError{"tls", errNoCertificate}
	}
	c := conn.NewListener(l, s.opts.Logger)
	return s.serveClients(c, func(net.Listener) error {
		if use == certs.Lines {
			return s.conns.ServeTLS(c, config)
		}
		return s.webSocket.Serve(s.conns.Secure(c, config))
	})
}
