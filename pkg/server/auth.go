package server

import (
	"crypto/tls"
	"slices"
	"strings"

	"github.com/nylen/lockd/internal/admin"
	"github.com/nylen/lockd/internal/auth"
	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/reload"
)

// askable are the transports whose clients can be asked who they are. Within the
// server's own process nobody is.
var askable = []conn.Transport{conn.TCP, conn.WebSocket, conn.TLS, conn.WSS, conn.HTTP, conn.Unix}

// askedByDefault is all of them but unix sockets, whose modes say who may.
const askedByDefault = "tcp,websocket,tls,wss,http"

// askNobody is the word for none of them: what clients show counts, and nobody
// has to show anything.
const askNobody = "none"

// checkAuth tells what is wrong with the options about who may do what.
func (o *Options) checkAuth() error {
	if len(o.AuthOn) == 0 {
		o.AuthOn = strings.Split(askedByDefault, ",")
	} else if o.AuthFile == "" {
		return optionError("auth-on", "needs an auth file (auth-file): without one there is nobody to know")
	}
	if slices.Contains(o.AuthOn, askNobody) {
		if len(o.AuthOn) > 1 {
			return optionError("auth-on", "%s goes with nothing else", askNobody)
		}
		return nil
	}
	for _, word := range o.AuthOn {
		if !slices.ContainsFunc(askable, func(t conn.Transport) bool { return t.String() == word }) {
			return optionError("auth-on", "must be some of tcp, websocket, tls, wss, http and unix, or none, not %q", word)
		}
	}
	return nil
}

// asks tells of which transports the clients are asked who they are.
func (o *Options) asks() (asks [conn.Transports]bool) {
	for _, t := range askable {
		asks[t] = o.asksOver(t.String())
	}
	return asks
}

func (o *Options) asksOver(transport string) bool {
	return o.AuthFile != "" && slices.Contains(o.AuthOn, transport)
}

// knowsCertificates tells whether clients can show certificates.
func (o *Options) knowsCertificates() bool {
	c := o.TLSConfig
	return o.TLSClientCA != "" || c != nil && (c.ClientAuth != tls.NoClientCert || c.GetConfigForClient != nil)
}

// asksAt tells whether clients have to show who they are, by a token or by a
// certificate, at the addresses of a transport.
func (o *Options) asksAt(transport string) bool {
	switch transport {
	case "admin":
		return o.AuthFile != ""
	case "tls", "wss":
		if o.wantsCertificates() {
			return true
		}
	}
	return o.asksOver(transport)
}

// openAuth reads the auth file, if there is one, and has it read again when it
// changes.
func (o *Options) openAuth() (*auth.File, *reload.Files, error) {
	if o.AuthFile == "" {
		return nil, nil, nil
	}
	f := auth.NewFile(o.AuthFile)
	files, err := reload.Open("auth file", []string{o.AuthFile}, o.Logger, func() error {
		if err := f.Load(); err != nil {
			return err
		}
		for _, warning := range append(f.Warnings(), o.vain(f)...) {
			o.Logger.Warn(warning)
		}
		return nil
	})
	if err != nil {
		return nil, nil, &OptionError{"auth-file", err}
	}
	return f, files, nil
}

// vain is what lines of the auth file do not do, though they look as if they did.
func (o *Options) vain(f *auth.File) (warnings []string) {
	if f.Certs() && !o.knowsCertificates() {
		warnings = append(warnings, "lines of the auth file with cert have no effect: clients are asked for no certificates (--tls-client-ca)")
	}
	switch {
	case !f.Users():
	case len(o.Unix) == 0:
		warnings = append(warnings, "lines of the auth file with uid have no effect: there is no unix socket")
	case !o.asksOver("unix"):
		warnings = append(warnings, "users that are not in the auth file may do everything over unix sockets, "+
			"which ask nobody: --auth-on with unix has them ask")
	}
	return warnings
}

// guard knows who may do what on the admin address.
func (s *Server) guard(f *auth.File) admin.Guard {
	if f == nil {
		return admin.Guard{}
	}
	return admin.Guard{Authority: f, Cert: conn.CertName, Denied: s.conns.Denied}
}
