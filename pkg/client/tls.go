package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// A TLSError is what is wrong between a client and a server as to TLS: with a
// certificate, or since only one of them speaks it. It is the cause of an ErrLost.
type TLSError struct {
	// Reason says it in words that people understand who have set neither up.
	Reason string

	// Err is what there was instead; nil if there was nothing.
	Err error
}

func (e *TLSError) Error() string { return "lockd: " + e.Reason }

func (e *TLSError) Unwrap() error { return e.Err }

// secured speaks TLS over a connection to a target, which has to show a
// certificate of its name.
func (o *Options) secured(ctx context.Context, conn net.Conn, to target) (net.Conn, error) {
	config := &tls.Config{}
	if o.TLS != nil {
		config = o.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName, _, _ = strings.Cut(to.host(), "%") // without an IPv6 zone
	}
	c := new(secureConn)
	if c.shows = len(config.Certificates) > 0 || config.GetClientCertificate != nil; !c.shows {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			c.lacks = true
			return new(tls.Certificate), nil // none
		}
	}
	c.Conn = tls.Client(conn, config)
	if err := c.Conn.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, c.explain(err, ctx)
	}
	return c, nil
}

// A secureConn is a connection within TLS whose errors people understand. The
// handshake is over, but since TLS 1.3 what the server thinks of the client's
// certificate comes behind it, in the place of the first reply.
type secureConn struct {
	*tls.Conn
	shows bool // it has a certificate of its own
	lacks bool // it was asked for one that it has not
	heard bool // something has come
}

func (c *secureConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.heard = c.heard || n > 0
	if err != nil && err != io.EOF {
		if err = c.explain(err, context.Background()); !c.heard {
			err = unreachable{err}
		}
	}
	return n, err
}

// explain makes a TLSError of what TLS has failed with, and leaves the rest.
func (c *secureConn) explain(err error, ctx context.Context) error {
	if reason := c.reason(err, ctx); reason != "" {
		return &TLSError{reason, err}
	}
	return err
}

func (c *secureConn) reason(err error, ctx context.Context) string {
	shaken := c.Conn.ConnectionState().HandshakeComplete
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "remote error" {
		return c.alerted(op.Err.Error())
	}
	switch {
	case errors.As(err, new(tls.RecordHeaderError)) && !shaken:
		return "the server does not speak TLS here"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "the server's certificate " + flawOf(err)
	case shaken:
		return ""
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return "no answer to the TLS handshake in time: perhaps the server does not speak TLS here"
	case ctx.Err() == nil && hungUp(err):
		return "the server closed the connection during the TLS handshake: perhaps it does not speak TLS here"
	}
	return ""
}

// alerted is what the server means by an alert. Package tls has no other name for
// one than its text.
func (c *secureConn) alerted(text string) string {
	switch alert := strings.TrimPrefix(text, "tls: "); {
	case alert == "certificate required", c.lacks && (alert == "bad certificate" || alert == "handshake failure"):
		return "the server wants a client certificate"
	case alert == "unknown certificate authority" && c.shows:
		return "the server does not know the authority that has issued the client certificate"
	case alert == "expired certificate" && c.shows:
		return "the server does not accept the client certificate: it has expired, or is not valid yet"
	case strings.Contains(alert, "certificate") && c.shows:
		return "the server does not accept the client certificate: " + alert
	case alert == "unrecognized name":
		return "the server has no certificate for the name that it was asked for"
	case alert == "protocol version not supported", alert == "handshake failure":
		return "the server and the client have no version of TLS, or no cipher, in common: " + alert
	default:
		return "the server ended TLS: " + alert
	}
}

// flawOf says what is wrong with a server's certificate.
func flawOf(err error) string {
	if wrong := new(x509.HostnameError); errors.As(err, wrong) {
		if names := namesOf(wrong.Certificate); names != "" {
			return fmt.Sprintf("is for %s, not for %s", names, wrong.Host)
		}
		return "is for no host at all, and so not for " + wrong.Host
	}
	if unknown := new(x509.UnknownAuthorityError); errors.As(err, unknown) {
		if of := unknown.Cert; of != nil {
			return fmt.Sprintf("is from an authority that is not trusted here, %q: name its CA", of.Issuer.String())
		}
		return "is from an authority that is not trusted here: name its CA"
	}
	invalid := new(x509.CertificateInvalidError)
	if !errors.As(err, invalid) {
		var verification *tls.CertificateVerificationError
		errors.As(err, &verification)
		return "is not valid: " + strings.TrimPrefix(verification.Err.Error(), "x509: ")
	}
	switch of := invalid.Cert; {
	case invalid.Reason == x509.Expired && of != nil && time.Now().Before(of.NotBefore):
		return "is not valid before " + of.NotBefore.UTC().Format(time.RFC3339) + ", or the clock here is wrong"
	case invalid.Reason == x509.Expired && of != nil:
		return "has expired on " + of.NotAfter.UTC().Format(time.RFC3339)
	case invalid.Reason == x509.IncompatibleUsage:
		return "is not for servers"
	}
	return "is not valid: " + strings.TrimPrefix(invalid.Error(), "x509: ")
}

// namesOf lists what a certificate is for: a few names, since there may be many.
func namesOf(of *x509.Certificate) string {
	names := slices.Clone(of.DNSNames) // certificates are shared
	for i, name := range names {
		names[i] = strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) {
				return '?'
			}
			return r
		}, name)
	}
	for _, ip := range of.IPAddresses {
		names = append(names, ip.String())
	}
	const few = 5
	if more := len(names) - few; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), more)
	}
	return strings.Join(names, ", ")
}

// alertRecord begins what a server that speaks TLS says to a line: an alert of
// SSL 3.0 or later. No reply does.
const alertRecord = 0x15

// wantsHTTPS is what Go's HTTP servers say when they speak TLS, and the client has not.
const wantsHTTPS = "\r\n\r\nClient sent an HTTP request to an HTTPS server."

// A plainConn is a TCP connection without TLS, and tells if the server wants that
// from the first thing that it does.
type plainConn struct {
	net.Conn
	secure string // how targets within TLS begin
	heard  bool
}

// unencrypted makes a plainConn of a connection without TLS, and of nothing else.
func unencrypted(conn net.Conn, secure string) net.Conn {
	if _, ok := conn.(*net.TCPConn); ok {
		return &plainConn{Conn: conn, secure: secure}
	}
	return conn
}

func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case c.heard:
	case n > 0:
		c.heard = true
		if b[0] == alertRecord || bytes.Contains(b[:n], []byte(wantsHTTPS)) {
			return 0, unreachable{&TLSError{"the server speaks TLS here: use " + c.secure, err}}
		}
	case hungUp(err):
		err = &TLSError{"the server closed the connection without a word: if it speaks TLS here, use " + c.secure, err}
	}
	return n, err
}

// hungUp tells whether the other end has ended the connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
