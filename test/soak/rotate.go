//go:build unix

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/auth"
	"github.com/nylen/lockd/internal/certs"
)

// A rotator replaces tokens and certificates while the server runs, as whoever
// operates one does: the new one is let in before anybody has it, and the old one
// for a while longer. Sometimes it gets a file wrong, which must not matter.
type rotator struct {
	at      addresses
	rnd     *rand.Rand
	server  *certs.Authority
	clients *certs.Authority
	tokens  map[string]string // by name
	guests  []*line           // who came with a token and has not asked for another, the oldest first
}

// lifetime is how long certificates are good for.
const lifetime = 365 * 24 * time.Hour

// newRotator makes all files for the first time.
func newRotator(dir string, rnd *rand.Rand) (*rotator, error) {
	r := &rotator{at: addresses{Dir: dir}, rnd: rnd, tokens: map[string]string{}}
	var err error
	if r.server, err = r.authority("servers"); err != nil {
		return nil, err
	}
	if r.clients, err = r.authority("clients"); err != nil {
		return nil, err
	}
	pair, err := r.server.Server([]string{"127.0.0.1"}, time.Now(), time.Now().Add(lifetime))
	if err != nil {
		return nil, err
	}
	tokens := newTokens()
	for name, content := range map[string][]byte{
		serverCA: r.server.Cert, serverCert: pair.Cert, serverKey: pair.Key, clientCA: r.clients.Cert, authFile: r.lines(tokens),
	} {
		if err := r.write(name, content); err != nil {
			return nil, err
		}
	}
	if err := r.handOutTokens(tokens); err != nil {
		return nil, err
	}
	return r, r.handOutCertificates(r.clients)
}

func (r *rotator) authority(of string) (*certs.Authority, error) {
	return certs.NewAuthority("lockd soak, "+of, time.Now(), time.Now().Add(10*lifetime))
}

// write replaces a file in one go.
func (r *rotator) write(name string, content []byte) error {
	temporary := r.at.file("." + name)
	if err := os.WriteFile(temporary, content, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, r.at.file(name))
}

func newTokens() map[string]string {
	tokens := map[string]string{}
	for _, id := range identities {
		if id.how == byToken {
			tokens[id.name] = auth.NewToken()
		}
	}
	return tokens
}

// lines is the auth file, with new tokens and those there are.
func (r *rotator) lines(tokens map[string]string) []byte {
	var b strings.Builder
	for _, id := range identities {
		switch id.how {
		case byCert:
			fmt.Fprintln(&b, id.name, id.role, "cert")
		case byUID:
			fmt.Fprintf(&b, "%s %s uid:%d\n", id.name, id.role, os.Getuid())
		case byToken:
			fmt.Fprintln(&b, id.name, id.role, auth.OfToken([]byte(tokens[id.name])))
			if old := r.tokens[id.name]; old != "" {
				fmt.Fprintln(&b, id.name, id.role, auth.OfToken([]byte(old)), "# until the next one")
			}
		}
	}
	return []byte(b.String())
}

func (r *rotator) handOutTokens(tokens map[string]string) error {
	r.tokens = tokens
	for name, token := range tokens {
		if err := r.write(name+".token", []byte(token+"\n")); err != nil {
			return err
		}
	}
	return nil
}

func (r *rotator) handOutCertificates(by *certs.Authority) error {
	names := []string{stranger}
	for _, id := range identities {
		if id.how == byCert {
			names = append(names, id.name)
		}
	}
	for _, name := range names {
		pair, err := by.Client(name, time.Now(), time.Now().Add(lifetime))
		if err != nil {
			return err
		}
		if err := r.write(name+".pem", append(pair.Cert, pair.Key...)); err != nil {
			return err
		}
	}
	return nil
}

// run replaces one thing after another until ctx is done.
func (r *rotator) run(ctx context.Context, s *process, t *tally) error {
	r.at = s.addresses
	type step struct {
		what string
		do   func(context.Context, *process) error
	}
	steps := []step{{"new server certificates", r.newServer}, {"broken files", r.breakFile}}
	if !s.Open {
		if err := r.invite(); err != nil {
			return err
		}
		defer func() {
			for _, l := range r.guests {
				l.Close()
			}
		}()
		steps = append([]step{{"new tokens", r.newTokens}, {"new client authorities", r.newClients}}, steps...)
	}
	for i := 0; ; i++ {
		step := steps[i%len(steps)]
		if err := step.do(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		t.add("rotator", step.what)
		if !pause(ctx, time.Duration(r.rnd.Int64N(int64(time.Second)))) {
			return nil
		}
	}
}

// pause returns false when ctx is done first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// nudge tells the server that files have changed, or has it find out.
func (r *rotator) nudge(s *process) error {
	if r.rnd.IntN(2) == 0 {
		return nil
	}
	return s.hangUp()
}

// await waits until the server has read what is new.
func await(what string, f func() bool) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f() {
			return nil
		}
	}
	return breach{fmt.Errorf("the server does not take %s", what)}
}

func (r *rotator) newTokens(_ context.Context, s *process) error {
	tokens := newTokens()
	if err := r.write(authFile, r.lines(tokens)); err != nil {
		return err
	}
	if err := r.nudge(s); err != nil {
		return err
	}
	one := guestName // all are in one file
	if err := await("new tokens", func() bool {
		l, err := connect(r.at, caller{identity: identity{name: one, how: byNone}, transport: transports[0]}, false)
		if err != nil {
			return false
		}
		defer l.Close()
		got, err := l.say("auth " + tokens[one])
		return err == nil && got == "1 ok"
	}); err != nil {
		return err
	}
	if err := r.handOutTokens(tokens); err != nil {
		return err
	}
	// The tokens before the last count no more, neither for those who come nor for
	// those who are there.
	if len(r.guests) == 2 {
		l := r.guests[0]
		r.guests = r.guests[1:]
		defer l.Close()
		for _, c := range []struct{ request, want string }{{"i " + prefix, "Not Authenticated"}, {"auth " + l.token, "Auth Failed"}} {
			if n, text, err := l.askOnce(0, c.request); err != nil || n != 0 || text != c.want {
				return breach{fmt.Errorf("with a token that is no more, %s is answered %d %q, %v", c.request, n, text, err)}
			}
		}
	}
	return r.invite()
}

const guestName = "porter"

// invite has somebody come with the token of now.
func (r *rotator) invite() error {
	l, err := connect(r.at, caller{identity: identity{name: guestName, role: "lock:" + prefix, how: byToken}, transport: transportNamed("tcp")}, r.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	r.guests = append(r.guests, l)
	return nil
}

// newServer replaces certificate and key one after the other, and so for a moment
// they don't go together.
func (r *rotator) newServer(ctx context.Context, s *process) error {
	pair, err := r.server.Server([]string{"127.0.0.1"}, time.Now(), time.Now().Add(lifetime))
	if err != nil {
		return err
	}
	if err := r.write(serverCert, pair.Cert); err != nil {
		return err
	}
	if r.rnd.IntN(2) == 0 {
		if err := r.nudge(s); err != nil {
			return err
		}
		pause(ctx, time.Second)
	}
	if err := r.write(serverKey, pair.Key); err != nil {
		return err
	}
	if err := r.nudge(s); err != nil {
		return err
	}
	want, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return err
	}
	return await("a new server certificate", func() bool {
		config, err := identities[0].tls(r.at)
		if err != nil {
			return false
		}
		c, err := tls.Dial("tcp", r.at.TLS, config)
		if err != nil {
			return false
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Equal(want.Leaf)
	})
}

// newClients replaces the authority of clients' certificates, and these.
func (r *rotator) newClients(_ context.Context, s *process) error {
	by, err := r.authority("clients")
	if err != nil {
		return err
	}
	if err := r.write(clientCA, append(append([]byte{}, by.Cert...), r.clients.Cert...)); err != nil {
		return err
	}
	if err := r.nudge(s); err != nil {
		return err
	}
	// Somebody who has the first certificate of the new one.
	aside, err := os.MkdirTemp(r.at.Dir, "aside")
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	pair, err := by.Client(stranger, time.Now(), time.Now().Add(lifetime))
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{stranger + ".pem": append(pair.Cert, pair.Key...), serverCA: r.server.Cert} {
		if err := os.WriteFile(filepath.Join(aside, name), content, 0o600); err != nil {
			return err
		}
	}
	at := r.at
	at.Dir = aside
	if err := await("certificates of a new authority", func() bool { return reaches(at) }); err != nil {
		return err
	}
	r.clients = by
	return r.handOutCertificates(by)
}

// reaches tells whether the server talks to somebody with a stranger's certificate.
func reaches(at addresses) bool {
	l, err := connect(at, caller{identity: identity{name: "nobody", how: byNone}, transport: transportNamed("tls")}, false)
	if err != nil {
		return false
	}
	defer l.Close()
	got, err := l.say("ping")
	return err == nil && got == "1 pong"
}

func transportNamed(name string) transport {
	for _, t := range transports {
		if t.name == name {
			return t
		}
	}
	panic(name)
}

// breakFile leaves a file wrong for a while: the server keeps to what it has.
func (r *rotator) breakFile(ctx context.Context, s *process) error {
	names := []string{serverCert, serverKey}
	if !s.Open {
		names = append(names, authFile, clientCA)
	}
	name := names[r.rnd.IntN(len(names))]
	well, err := os.ReadFile(r.at.file(name))
	if err != nil {
		return err
	}
	switch r.rnd.IntN(3) {
	case 0:
		err = os.Remove(r.at.file(name))
	case 1:
		err = r.write(name, []byte("what is this?\n"))
	default:
		err = r.write(name, well[:len(well)/2])
		if name == authFile { // half a file may be right
			err = r.write(name, append(well, "porter lock sha256:12\n"...))
		}
	}
	if err != nil {
		return err
	}
	if err := r.nudge(s); err != nil {
		return err
	}
	pause(ctx, time.Duration(r.rnd.Int64N(int64(3*time.Second))))
	if err := r.write(name, well); err != nil {
		return err
	}
	return r.nudge(s)
}
