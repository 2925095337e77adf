// Package hosts tells under which names a server may be asked for over HTTP.
//
// A page in somebody's browser may talk to the server that it came from. If its
// author has that name point to an address of ours next (DNS rebinding), we are
// that server: the browser sees nothing wrong, and the page's origin is the host
// that it asks for. But it asks for a name of the author's, and an address that
// is given as such cannot be made to point elsewhere.
package hosts

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Allowed are names of hosts besides localhost, in lower case; or * for all.
type Allowed []string

// Parse reads names as a person writes them.
func Parse(names []string) (Allowed, error) {
	var a Allowed
	for _, name := range names {
		host := canonical(name)
		if host != "*" && (host == "" || strings.ContainsFunc(host, func(r rune) bool {
			return r <= ' ' || r == 0x7f || strings.ContainsRune("/:@*?#[]\\,", r)
		})) {
			return nil, fmt.Errorf("%q is no host name: give it as in lockd.example.com, without scheme and port, or * for all", name)
		}
		a = append(a, host)
	}
	return a, nil
}

// canonical is a name as it is compared.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// Has tells whether a request whose Host header is this one may be answered.
// One without such a header is no browser's.
func (a Allowed) Has(header string) bool {
	if header == "" {
		return true
	}
	host := Name(header)
	if _, err := netip.ParseAddr(host); err == nil || host == "localhost" {
		return true
	}
	for _, name := range a {
		if name == "*" || name == host {
			return true
		}
	}
	return false
}

// Name is the host in a Host header, without its port.
func Name(header string) string {
	u := url.URL{Host: header}
	return canonical(u.Hostname())
}

// Refusal is what who asks for another host is told.
func Refusal(header string) string {
	return "lockd: " + Name(header) + " is not known to be a name of this server: allow it with --allowed-host"
}
