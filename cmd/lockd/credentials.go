package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/nylen/lockd/pkg/client"
)

// credentials are whom a command trusts, and who it is. Secrets are in files, never
// in arguments, which everybody on the machine can read, nor in variables, which all
// that is started inherits. The variables of the client's certificate are not named
// after the flags: LOCKD_TLS_CERT is the server's, whose environment `lockd ping`
// shares where it is the probe of a container.
type credentials struct {
	TokenFile  filled `placeholder:"FILE" help:"Authenticate with the token in this file."`
	CA         filled `name:"tls-ca" placeholder:"FILE" help:"With tls:// and wss://: trust the authorities whose certificates are in this file, in the place of the system's."`
	Cert       filled `name:"tls-cert" env:"LOCKD_CLIENT_CERT" placeholder:"FILE" help:"With tls:// and wss://: the client's certificate, for a server that asks for one."`
	Key        filled `name:"tls-key" env:"LOCKD_CLIENT_KEY" placeholder:"FILE" help:"The key of --tls-cert."`
	ServerName filled `name:"tls-server-name" placeholder:"NAME" help:"The name that the server's certificate has to be for, if it is not the host of --server."`

	tls    *tls.Config // for client.Options, once read
	token  func(context.Context) (string, error)
	warned bool
}

// secretVariables name what a command that lockd runs must not see.
var secretVariables = []string{"LOCKD_TOKEN_FILE", "LOCKD_CLIENT_CERT", "LOCKD_CLIENT_KEY", "LOCKD_CLUSTER_KEY", "LOCKD_CLUSTER_PASSWORD_FILE"}

// read reads the files, of which the error says what is wrong.
func (c *credentials) read(server string) (err error) {
	c.tls, err = client.TLSFiles{
		CA: string(c.CA), Cert: string(c.Cert), Key: string(c.Key), ServerName: string(c.ServerName),
	}.For(server)
	if err != nil {
		return errors.New(flagOf.Replace(strings.TrimPrefix(err.Error(), "lockd: ")))
	}
	if c.TokenFile == "" {
		return nil
	}
	c.token = client.TokenFile(string(c.TokenFile))
	if _, err := c.token(context.Background()); err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	return nil
}

// flagOf has what pkg/client says of its options say it of flags.
var flagOf = strings.NewReplacer(
	"target ", "--server ",
	"CA: ", "--tls-ca: ",
	"a CA and a server's name need", "--tls-ca and --tls-server-name need",
	"a client certificate needs its key", "--tls-cert needs --tls-key, too",
	"a client's key needs its certificate", "--tls-key needs --tls-cert, too",
)

// hide keeps them from a command that is started.
func (c *credentials) hide() {
	for _, path := range []filled{c.TokenFile, c.Cert, c.Key} {
		hideDescriptor(string(path))
	}
}

// warn warns of secrets that everybody can read. It does not refuse them, as ssh does:
// in a container they are often mounted like that, and there is nobody else in it.
func (c *credentials) warn() {
	if c.warned || runtime.GOOS == "windows" { // which has no such modes
		return
	}
	c.warned = true
	for _, path := range []filled{c.TokenFile, c.Key} {
		if info, err := os.Stat(string(path)); err == nil && info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
			fmt.Fprintf(stderr, "lockd: every user of this machine can read %s: chmod o-r it\n", plain(string(path)))
		}
	}
}

// remedy says which flags help against an error; nil if none do.
func remedy(err error) error {
	var of *client.TLSError
	switch {
	case errors.Is(err, client.ErrAuthFailed):
		return errors.New("the server does not know the token of --token-file")
	case errors.Is(err, client.ErrNotAuthenticated):
		return errors.New("the server asks for a token (--token-file), or for a certificate that it knows (--tls-cert)")
	case !errors.As(err, &of):
		return nil
	}
	flags := ""
	switch text := of.Reason; {
	case strings.HasSuffix(text, "name its CA"):
		flags = " (--tls-ca)"
	case strings.HasSuffix(text, "wants a client certificate"):
		flags = " (--tls-cert, --tls-key)"
	case strings.Contains(text, ", not for "):
		flags = " (--tls-server-name)"
	}
	return errors.New(of.Reason + flags)
}
