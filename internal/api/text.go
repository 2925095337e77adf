package api

import (
	"encoding/base64"
	"time"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/session"
)

// named is something that has a name. Names are bytes, and JSON has text: what is no
// UTF-8 is replaced in it, and where that has made a difference the bytes stand beside
// it.
type named struct {
	Name   string `json:"name"`
	Base64 string `json:"name_b64,omitempty"`
}

func nameOf(name string) named { return named{name, base64Of(name)} }

// base64Of returns the bytes of a text, if JSON cannot carry them.
func base64Of(text string) string {
	if utf8.ValidString(text) {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// A party is a session, or its client, in a reply.
type party struct {
	Address string `json:"address"`
	named          // as it has registered; "" if it has not
	Identity
	Transport string `json:"transport"`
	Away      bool   `json:"away,omitempty"` // it is kept, and has no connection now
}

// Identity is who a client has shown to be.
type Identity struct {
	Identity string `json:"identity"` // "": it has not
	Base64   string `json:"identity_b64,omitempty"`
}

func identityOf(a *session.Access) (i Identity) {
	if a != nil {
		i.Identity, i.Base64 = a.Name, base64Of(a.Name)
	}
	return i
}

// A moment is a time in a reply.
type moment time.Time

// MarshalText implements encoding.TextMarshaler.
func (m moment) MarshalText() ([]byte, error) {
	return time.Time(m).UTC().AppendFormat(nil, "2006-01-02T15:04:05.000Z07:00"), nil
}
