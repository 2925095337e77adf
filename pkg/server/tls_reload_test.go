package server_test

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// served returns the serial number of the certificate that a server shows.
func served(tb testing.TB, addr string, config *tls.Config) string {
	tb.Helper()
	c, err := tls.Dial("tcp", addr, config)
	must(tb, err)
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// A changed certificate is shown by the next handshake, whichever way the files
// change; who is connected stays so.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	inPlace := func(f *certFiles) {
		p := mustPair(authority().Server([]string{"localhost"}, time.Now(), time.Now().Add(time.Hour)))
		must(t, os.WriteFile(f.cert, p.Cert, 0o600))
		must(t, os.WriteFile(f.key, p.Key, 0o600))
	}
	for name, c := range map[string]struct {
		prepare, change func(f *certFiles)
	}{
		"renamed over": {change: func(f *certFiles) {
			f.serve(authority().Server([]string{"localhost"}, time.Now(), time.Now().Add(time.Hour)))
		}},
		"in place": {change: inPlace},
		// As Kubernetes has it: FILE -> ..data/FILE, ..data -> ..N.
		"symlinks": {
			prepare: func(f *certFiles) {
				must(t, os.Mkdir(filepath.Join(f.dir, "..1"), 0o700))
				for _, file := range []string{f.cert, f.key, f.ca} {
					must(t, os.Rename(file, filepath.Join(f.dir, "..1", filepath.Base(file))))
					must(t, os.Symlink("..data/"+filepath.Base(file), file))
				}
				must(t, os.Symlink("..1", filepath.Join(f.dir, "..data")))
			},
			change: func(f *certFiles) {
				second := newCertFiles(t)
				must(t, os.Rename(second.dir, filepath.Join(f.dir, "..2")))
				must(t, os.Symlink("..2", filepath.Join(f.dir, "..new")))
				must(t, os.Rename(filepath.Join(f.dir, "..new"), filepath.Join(f.dir, "..data")))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newCertFiles(t)
			if c.prepare != nil {
				c.prepare(f)
			}
			s := start(t, withFiles(f))
			config := trusting(clientCert(authority(), "web1"))
			conn, err := tls.Dial("tcp", s.tls, config)
			holder := newClient(t, conn, err)
			holder.ask("g foo", "1 Lock Get Success: foo")
			before := served(t, s.tls, config)
			c.change(f)
			eventually(t, "the new certificate", func() bool { return served(t, s.tls, config) != before })
			if served(t, s.wss, config) == before {
				t.Error("the listener for WebSocket has the old certificate")
			}
			holder.ask("i foo", "1 Lock Is Locked: foo")
			holder.ask("r foo", "1 Lock Release Success: foo")
		})
	}
}

// What cannot be used is said, and what was there stays: also while the certificate
// is there already and its key is not.
func TestTLSReloadBroken(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	var log lockedBuffer
	opts := withFiles(f)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s := start(t, opts)
	config := trusting(clientCert(authority(), "web1"))
	before := served(t, s.tls, config)
	next := mustPair(authority().Server([]string{"localhost"}, time.Now(), time.Now().Add(time.Hour)))
	ca := authority().Pair.Cert
	for _, broken := range []struct {
		file, restore string
		content       []byte
		want          string
	}{
		{f.ca, "", []byte("nothing"), "has no certificate"},
		{f.ca, "", nil, "has no certificate"},
		{f.ca, string(ca), nil, "has no certificate"},
		{f.cert, "", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "cannot use the certificate"},
		{f.cert, "", next.Cert, "is not that of the certificate"},
	} {
		f.put(broken.file, broken.content)
		if err := s.Reload(); err == nil || !strings.Contains(err.Error(), broken.want) {
			t.Errorf("%.20q: got %v, which does not speak of %q", broken.content, err, broken.want)
		}
		if served(t, s.tls, config) != before {
			t.Errorf("%.20q: the old certificate is gone", broken.content)
		}
		if broken.restore != "" {
			f.put(broken.file, []byte(broken.restore))
		}
	}
	if !strings.Contains(log.String(), "going on with what was read before") {
		t.Errorf("the log does not tell:\n%s", log.String())
	}
	f.put(f.key, next.Key)
	must(t, s.Reload())
	if served(t, s.tls, config) == before {
		t.Error("with its key, too, the new certificate is not used")
	}
}

// When the clients' authority changes, nobody gets in any more by that of before:
// neither by a new handshake nor by taking a session up.
func TestTLSRevokedAuthority(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := newCertFiles(t)
		opts := withFiles(f)
		opts.TLSMinVersion = version
		s := start(t, opts)
		config := trusting(clientCert(authority(), "web1"))
		config.MaxVersion = version
		config.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for range 3 {
			conn, err := tls.Dial("tcp", s.tls, config)
			c := newClient(t, conn, err)
			c.ask("g foo", "1 Lock Get Success: foo") // and with the reply any tickets
			c.ask("r foo", "1 Lock Release Success: foo")
			if conn.ConnectionState().DidResume {
				t.Error("a session was resumed: its certificate was not looked at")
			}
			c.Close()
		}
		other := newAuthority()
		f.put(f.ca, other.Pair.Cert)
		must(t, s.Reload())
		if err := refusal(t, s.tls, config); !strings.Contains(err.Error(), "certificate") && !strings.Contains(err.Error(), "authority") {
			t.Errorf("the old authority's client: %v", err)
		}
		conn, err := tls.Dial("tcp", s.tls, trusting(clientCert(other, "web1")))
		newClient(t, conn, err).ask("i foo", "0 Lock Not Locked: foo")
	}
}

// The log warns of a certificate that ends soon when it is read, and no more once
// there is a new one.
func TestTLSExpiryIsWarnedOf(t *testing.T) {
	t.Parallel()
	f := newCertFiles(t)
	f.serve(authority().Server([]string{"localhost"}, time.Now(), time.Now().Add(3*time.Hour)))
	var log lockedBuffer
	s := start(t, server.Options{TLSCert: f.cert, TLSKey: f.key, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "expires soon") })
	soon := metric(t, s.Server, "lockd_tls_certificate_expiry_timestamp_seconds")
	if left := time.Until(time.Unix(int64(soon), 0)); left < 2*time.Hour || left > 3*time.Hour {
		t.Errorf("the metric says that it ends in %v", left)
	}
}
