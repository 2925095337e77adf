package conn

import "github.com/nylen/lockd/internal/session"

// Authenticated implements session.Network. Of wrong tokens the log is told
// rarely, since strangers can try as many as they like.
func (s *Server) Authenticated(st *session.Stream, a *session.Access) {
	if a != nil {
		s.met(st)
		if s.logs() {
			s.cfg.Logger.Debug("authenticated", "client", st.Address(), "as", a.Name, "role", a.Role.String())
		}
		return
	}
	if n := s.denials.now(); n > 0 {
		s.warnDenied(st.Address(), n)
	}
}

// Denied does the same for who has shown a wrong token over HTTP.
func (s *Server) Denied(client string) {
	if n := s.denials.now(); n > 0 {
		s.warnDenied(client, n)
	}
}

func (s *Server) warnDenied(client string, n int) {
	s.cfg.Logger.Warn("wrong token", "client", client, "failures", n)
}

// appendAccess appends who somebody has shown to be to a log line's attributes.
func appendAccess(attrs []any, key string, a *session.Access) []any {
	if a == nil {
		return attrs
	}
	return append(attrs, key, a.Name)
}
