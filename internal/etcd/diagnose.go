package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Etcd's client tries again until its caller's time is over, and does not say what went
// wrong meanwhile. So that is found out by connections of our own.

// probing is how long each step of that may take.
const probing = time.Second

// Diagnose looks why etcd has not answered, and returns what it found of each host: an
// error that is the end of a context says nothing of that. It returns others as they
// are.
func (s *Store) Diagnose(ctx context.Context, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{s.probe(ctx), err}
}

// A silence is what was found out while operations were not answered.
type silence struct {
	mu    sync.Mutex // guards what follows; taken last
	why   string
	at    time.Time // when that was found
	looks bool      // somebody is about to find out
	ends  bool      // it has ended meanwhile
}

// whySilent returns what is known of why etcd does not answer, and has it looked for. Nobody
// waits for that: a heartbeat least of all.
func (s *Store) whySilent() string {
	w := &s.silent
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.looks && time.Since(w.at) > 5*probing {
		w.looks, w.ends = true, false
		go func() {
			why := s.probe(context.Background())
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.looks = false; !w.ends {
				w.why, w.at = ": "+why, time.Now()
			}
		}()
	}
	return w.why
}

// end notes that there was an answer.
func (w *silence) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.why, w.at, w.ends = "", time.Time{}, true
}

// probe looks what is wrong with each host.
func (s *Store) probe(ctx context.Context) string {
	found := make([]string, len(s.place.hosts))
	var all sync.WaitGroup
	for i, host := range s.place.hosts {
		all.Go(func() { found[i] = host + s.probeHost(ctx, host) })
	}
	all.Wait()
	return strings.Join(found, "; ")
}

// probeHost returns what is to be said behind the host's name.
func (s *Store) probeHost(ctx context.Context, host string) string {
	const slow = " takes connections, and does not answer: does it stand still, or have no leader?"
	conn, err := dial(ctx, host)
	if err != nil {
		return ": " + plainly(err)
	}
	defer conn.Close()
	config := s.config.TLS
	if config == nil {
		if greets(conn) == nil {
			return slow
		}
		if speaksTLS(ctx, host, &tls.Config{InsecureSkipVerify: true}) { // nothing is sent
			return " speaks TLS: want etcds://, or a CA"
		}
		return slow
	}
	config = config.Clone()
	config.NextProtos = []string{"h2"}
	if config.ServerName == "" {
		config.ServerName, _, _ = net.SplitHostPort(host)
	}
	secure := tls.Client(conn, config)
	conn.SetDeadline(time.Now().Add(probing))
	if err = secure.HandshakeContext(ctx); err == nil {
		// One that refuses our certificate says so only now.
		if err = greets(secure); err == nil {
			return slow
		}
	}
	wrongName, unknown := new(x509.HostnameError), new(x509.UnknownAuthorityError)
	switch op := new(net.OpError); {
	case errors.As(err, unknown):
		return ": its certificate is by an authority that is not trusted here: is it the right CA?"
	case errors.As(err, wrongName):
		return ": " + strings.TrimPrefix(wrongName.Error(), "x509: ") + ": give the server's name that is in it"
	case errors.As(err, &op) && op.Op == "remote error" && config.GetClientCertificate == nil:
		return " asks for a client's certificate: name one, and its key (" + op.Err.Error() + ")"
	case errors.As(err, &op) && op.Op == "remote error":
		return " refuses the client's certificate: is it by an authority that it trusts? It says: " + op.Err.Error()
	}
	if plain, wrong := dial(ctx, host); wrong == nil {
		defer plain.Close()
		if greets(plain) == nil {
			return " speaks no TLS: want etcd://, and neither a CA nor a certificate"
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return slow
	}
	return ": " + plainly(err)
}

func dial(ctx context.Context, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, probing)
	defer cancel()
	return new(net.Dialer).DialContext(ctx, "tcp", host)
}

// greets tells whether there is a server of HTTP/2, as etcd is one for its clients: it
// answers the preface by its settings.
func greets(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(probing))
	const settings = 4
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		// What it has said before it closed the connection tells more.
		if _, said := conn.Read(make([]byte, 1)); said != nil && !errors.Is(said, io.EOF) {
			return said
		}
		return err
	}
	var header [9]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	if header[3] != settings {
		return errors.New("it is no etcd: it speaks no HTTP/2")
	}
	return nil
}

// speaksTLS tells whether there is a server of TLS, whoever that is.
func speaksTLS(ctx context.Context, host string, config *tls.Config) bool {
	conn, err := dial(ctx, host)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(probing))
	err = tls.Client(conn, config).HandshakeContext(ctx)
	op := new(net.OpError)
	return err == nil || errors.As(err, &op) && op.Op == "remote error"
}

// plainly leaves away what is around the reason.
func plainly(err error) string {
	switch call := new(os.SyscallError); {
	case errors.As(err, &call):
		return call.Err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case errors.Is(err, io.EOF):
		return "it closed the connection"
	}
	return err.Error()
}
