package admin

import (
	"net"
	"net/http"

	"github.com/nylen/lockd/internal/api"
	"github.com/nylen/lockd/internal/session"
)

// forAPI tells the API who asks. Whatever changes something takes what Admin takes;
// and no page of another site may have that done, whatever headers its browser sends.
func (g Guard) forAPI(a *api.API) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail(w, r, http.StatusForbidden, "lockd: a page of another site may not have this done")
	}))
	admin := crossOrigin.Handler(g.Admin(a))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := api.Asker{Local: isLocal(r), Admin: g.Authority == nil && isLocal(r), Alive: func() { stay(r) }}
		if g.Authority != nil {
			access, ok := g.access(w, r)
			if !ok {
				return
			}
			who.Access = access
			who.Admin = access != nil && access.Role == session.RoleAdmin && access.Prefix == ""
		}
		if api.Follows(r) {
			keepLittle(r)
		}
		r = api.WithAsker(r, who)
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			a.ServeHTTP(w, r)
		} else {
			admin.ServeHTTP(w, r)
		}
	})
}

// placeOf is by what a request's context knows the connection's place.
type placeOf struct{}

type ownPlace struct {
	places *places
	conn   net.Conn
}

// stay has the connection of a request keep its place for a while.
func stay(r *http.Request) {
	if p, ok := r.Context().Value(placeOf{}).(ownPlace); ok {
		p.places.stay(p.conn)
	}
}

// eventBytes is how much the system keeps for a client that follows events, at most, and
// for one that does not read: little enough that this is noticed after some minutes.
const eventBytes = 16 << 10

// keepLittle has the system keep no more for the client of a request.
func keepLittle(r *http.Request) {
	p, ok := r.Context().Value(placeOf{}).(ownPlace)
	if !ok {
		return
	}
	if c, ok := below(p.conn).(interface{ SetWriteBuffer(int) error }); ok {
		c.SetWriteBuffer(eventBytes)
	}
}
