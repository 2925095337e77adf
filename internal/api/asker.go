package api

import (
	"context"
	"net/http"

	"github.com/nylen/lockd/internal/session"
)

// An Asker is who makes a request, and what that one may do besides to look.
type Asker struct {
	Access *session.Access // nil: it has not said who it is
	Local  bool            // it is on the server's machine, where anybody may look
	Admin  bool            // it may end clients
	Alive  func()          // is called whenever it has taken an event; may be nil
}

type askerKey struct{}

// WithAsker returns a request that is somebody's.
func WithAsker(r *http.Request, a Asker) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), askerKey{}, a))
}

func askerOf(r *http.Request) Asker {
	a, _ := r.Context().Value(askerKey{}).(Asker)
	return a
}

func (a Asker) alive() {
	if a.Alive != nil {
		a.Alive()
	}
}

// role is the asker's, as far as looking at this server goes.
func (a Asker) role() string {
	if a.Admin {
		return session.RoleAdmin.String()
	}
	return session.RoleRead.String()
}

// mayStill tells whether the asker may look on, a while after it was let in.
func (a Asker) mayStill() bool {
	if a.Access == nil {
		return true
	}
	now := a.Access.Current()
	return now != nil && (a.Local || now.Role != session.RoleLock && now.Prefix == "")
}
