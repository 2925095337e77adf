package certs

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// soon is how long before its end a certificate is warned of.
const soon = 14 * 24 * time.Hour

// again is how often.
const again = 24 * time.Hour

// An end is the time when what is in a file is of no use any more.
type end struct {
	file  string
	of    string // whose it is
	begin time.Time
	at    time.Time
}

// endsOf is the end of a chain of certificates: that of the one that ends first.
func endsOf(file string, cert tls.Certificate) ([]end, error) {
	e := end{file: file}
	for i, der := range cert.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			e.of = c.Subject.String()
		}
		if i == 0 || c.NotAfter.Before(e.at) {
			e.at = c.NotAfter
		}
		if c.NotBefore.After(e.begin) {
			e.begin = c.NotBefore
		}
	}
	return []end{e}, nil
}

// lastEnd is the end of authorities: that of the one that ends last, as an old
// one may stay beside the new one.
func lastEnd(file string, authorities []*x509.Certificate) end {
	e := end{file: file}
	for _, c := range authorities {
		if c.NotAfter.After(e.at) {
			e.of, e.begin, e.at = c.Subject.String(), c.NotBefore, c.NotAfter
		}
	}
	return e
}

// watch warns of certificates that end soon: when they are read, when that
// becomes true, and then every day.
func (s *Store) watch() {
	for {
		timer := time.NewTimer(s.warn(time.Now()))
		select {
		case <-timer.C:
		case <-s.changed:
		case <-s.stop:
		}
		timer.Stop()
		select {
		case <-s.stop:
			return
		default:
		}
	}
}

// warn logs what is to be said now, and returns when to look again. That is once a
// day at least, whatever a suspended machine does to timers.
func (s *Store) warn(now time.Time) time.Duration {
	wait := again
	for _, e := range s.current.Load().ends {
		attrs := []any{"file", e.file, "of", e.of, "until", e.at.UTC().Format(time.RFC3339)}
		switch {
		case now.Before(e.begin):
			s.log.Error("a certificate is not valid yet: handshakes fail", "file", e.file, "of", e.of, "from", e.begin.UTC().Format(time.RFC3339))
			wait = min(wait, e.begin.Sub(now))
		case !now.Before(e.at):
			s.log.Error("a certificate has expired: handshakes fail until there is another one in its file", attrs...)
		case !now.Before(e.at.Add(-soon)):
			s.log.Warn("a certificate expires soon", append(attrs, "days", int(e.at.Sub(now)/(24*time.Hour)))...)
			wait = min(wait, e.at.Sub(now))
		default:
			wait = min(wait, e.at.Add(-soon).Sub(now))
		}
	}
	return wait
}
