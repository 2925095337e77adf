package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// DefaultPrefix is where a cluster's keys are if a URL names no place.
const DefaultPrefix = "/lockd"

// A Config is how an etcd is reached.
type Config struct {
	// URL is etcd://HOST:PORT[,HOST:PORT...][/PREFIX], etcds:// for TLS with the system's
	// authorities. All keys are below PREFIX, by default DefaultPrefix.
	URL string
	// CA, Cert and Key are files, each of which has TLS be used: whom to trust in the
	// place of the system's authorities, and the client's own certificate, which is
	// read again for each connection. ServerName is the name that etcd's certificate
	// has to be for, if it is not the host's.
	CA         string
	Cert       string
	Key        string
	ServerName string
	// User is etcd's, PasswordFile a file with its password.
	User         string
	PasswordFile string
}

// A place is what a URL says.
type place struct {
	hosts  []string
	prefix string // begins with a slash, ends with none
	secure bool
}

func parse(text string) (place, error) {
	const form = "want etcd://HOST:PORT[,HOST:PORT...]/PREFIX"
	var p place
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok || scheme != "etcd" && scheme != "etcds":
		return p, fmt.Errorf("%q is no etcd's URL: %s", text, form)
	case strings.ContainsAny(rest, "?#@"):
		return p, fmt.Errorf("%q has something that is not asked for (a user goes elsewhere): %s", text, form)
	}
	p.secure = scheme == "etcds"
	hosts, path, _ := strings.Cut(rest, "/")
	for host := range strings.SplitSeq(hosts, ",") {
		name, port, err := net.SplitHostPort(host)
		if n, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil || n == 0 || name == "" {
			return p, fmt.Errorf("%q is no HOST:PORT: %s", host, form)
		}
		p.hosts = append(p.hosts, host)
	}
	path, err := url.PathUnescape(path)
	if err != nil {
		return p, fmt.Errorf("%q: %w", text, err)
	}
	if path = strings.Trim(path, "/"); path == "" {
		p.prefix = DefaultPrefix
	} else {
		p.prefix = "/" + path
	}
	return p, nil
}

// tls is the TLS that the config asks for; nil for none.
func (c Config) tls(p place) (*tls.Config, error) {
	if !p.secure && c.CA == "" && c.Cert == "" && c.Key == "" {
		if c.ServerName != "" {
			return nil, errors.New("a server's name is of use with TLS only: want etcds://, or a CA")
		}
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("the CA: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("the CA: %s has no certificate", c.CA)
		}
	}
	switch {
	case c.Cert == "" && c.Key != "":
		return nil, errors.New("a client's key needs its certificate")
	case c.Cert != "" && c.Key == "":
		return nil, errors.New("a client's certificate needs its key")
	case c.Cert != "":
		if _, err := tls.LoadX509KeyPair(c.Cert, c.Key); err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
			return &pair, err
		}
	}
	return config, nil
}

// password reads the password.
func (c Config) password() (string, error) {
	switch {
	case c.User == "" && c.PasswordFile == "":
		return "", nil
	case c.User == "":
		return "", errors.New("a password needs its user")
	case c.PasswordFile == "":
		return "", errors.New("a user needs a file with the password")
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the password: %w", err)
	}
	password := strings.TrimRight(string(text), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return "", fmt.Errorf("the password: %s has not one line with one", c.PasswordFile)
	}
	return password, nil
}
