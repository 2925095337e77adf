package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/certs"
)

// certCmd makes certificates to try TLS with.
type certCmd struct {
	Dir    filled   `arg:"" optional:"" complete:"dirs" placeholder:"DIR" default:"lockd-certs" help:"Where they go; it is made if it is not there (${default})."`
	Host   list     `env:"-" placeholder:"NAME" help:"A name or an address by which clients reach the server. For several, repeat the flag or put commas between them (localhost, 127.0.0.1, ::1 and this machine's name)."`
	Client certName `env:"-" placeholder:"NAME" default:"client" help:"The client's name, which is its identity (${default})."`
}

// Help is what the command's help says besides.
func (certCmd) Help() string {
	return `Makes an authority, and certificates that it signs for a server and a client:
enough to try TLS with, and for a handful of machines. They are good for a year,
the authority for ten. Nothing that is there is overwritten: another call adds
another client (--client), and makes a new server's certificate if that one was
removed. Who has the authority's key, ca-key.pem, can make clients: keep it
where neither the server nor clients are.

Example:

	lockd cert certs --host locks.example.com --client web1`
}

// certName is what may be a file's name everywhere, and a common name.
type certName string

var goodName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@-]*$`)

// Validate is called by kong.
func (n certName) Validate() error {
	switch {
	case len(n) > certs.MaxName:
		return fmt.Errorf("a certificate's name has at most %d bytes", certs.MaxName)
	case !goodName.MatchString(string(n)):
		return fmt.Errorf("%q: want letters, digits, _ . @ - as it is a file's name, too", string(n))
	case n == "ca" || n == "server":
		return fmt.Errorf("%s.pem is not a client's: choose another name", n)
	}
	return nil
}

// How long certificates are good for.
const (
	year          = 365 * 24 * time.Hour
	authorityTime = 10 * year
)

// certFiles are the files of a folder. What was made is removed if it is not
// complete.
type certFiles struct {
	dir  string
	made []string
}

func (c *certCmd) Run() (err error) {
	f := &certFiles{dir: string(c.Dir)}
	if err := os.MkdirAll(f.dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder %s: %w", f.dir, err)
	}
	client := string(c.Client)
	if f.has(client) {
		return fmt.Errorf("%s is there already: name another client with --client", f.path(client))
	}
	if f.has("server") && len(c.Host) > 0 {
		return fmt.Errorf("%s is there already: remove it and its key to have a new one, or go without --host", f.path("server"))
	}
	defer func() {
		if err != nil {
			f.remove()
		}
	}()
	now := time.Now()
	ca, err := f.authority(now)
	if err != nil {
		return err
	}
	if !f.has("server") {
		pair, err := ca.Server(c.hosts(), now, now.Add(year))
		if err != nil {
			return err
		}
		if err := f.write("server", pair); err != nil {
			return err
		}
	}
	pair, err := ca.Client(client, now, now.Add(year))
	if err != nil {
		return err
	}
	if err := f.write(client, pair); err != nil {
		return err
	}
	c.explain(f)
	return nil
}

// hosts are what a server's certificate is for.
func (c *certCmd) hosts() []string {
	if len(c.Host) > 0 {
		return c.Host
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" && name != "localhost" && net.ParseIP(name) == nil {
		hosts = append(hosts, name)
	}
	return hosts
}

// explain prints what there is now and how to go on.
func (c *certCmd) explain(f *certFiles) {
	fmt.Fprintln(stdout, "made "+strings.Join(f.made, " "))
	fmt.Fprintf(stdout, `
Serve:

  lockd --tls 9996 --tls-cert %s --tls-key %s --tls-client-ca %s

Ask:

  lockd inspect -s tls://localhost:9996 --tls-ca %[3]s --tls-cert %[4]s --tls-key %[5]s NAME
`, shellWord(f.path("server")), shellWord(f.path("server-key")), shellWord(f.path("ca")),
		shellWord(f.path(string(c.Client))), shellWord(f.path(string(c.Client)+"-key")))
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// shellWord quotes a word for a shell where it has to be.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (f *certFiles) path(name string) string { return filepath.Join(f.dir, name+".pem") }

// has tells whether there is a certificate of some name, or its key.
func (f *certFiles) has(name string) bool {
	for _, path := range []string{f.path(name), f.path(name + "-key")} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// authority returns the one that is there, or a new one.
func (f *certFiles) authority(now time.Time) (*certs.Authority, error) {
	if !f.has("ca") {
		ca, err := certs.NewAuthority("lockd "+now.UTC().Format("2006-01-02 15:04:05"), now, now.Add(authorityTime))
		if err != nil {
			return nil, err
		}
		return ca, f.write("ca", ca.Pair)
	}
	var pair certs.Pair
	var err error
	if pair.Cert, err = os.ReadFile(f.path("ca")); err != nil {
		return nil, err
	}
	if pair.Key, err = os.ReadFile(f.path("ca-key")); err != nil {
		return nil, fmt.Errorf("the authority's key is needed to sign: %w", err)
	}
	ca, err := certs.ReadAuthority(pair)
	if err != nil {
		return nil, fmt.Errorf("cannot use %s and its key: %w", f.path("ca"), err)
	}
	return ca, nil
}

// write writes a certificate and its key, which its owner alone may read.
func (f *certFiles) write(name string, pair certs.Pair) error {
	if err := f.create(f.path(name+"-key"), pair.Key, 0o600); err != nil {
		return err
	}
	return f.create(f.path(name), pair.Cert, 0o644)
}

func (f *certFiles) create(path string, content []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	f.made = append(f.made, path)
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}

func (f *certFiles) remove() {
	for _, path := range f.made {
		os.Remove(path)
	}
}
