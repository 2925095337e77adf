package server

import (
	"time"

	"github.com/nylen/lockd/internal/conn"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/state"
)

// DefaultMaxKeep is for how long clients may be kept without a connection, where the
// options say nothing.
const DefaultMaxKeep = 30 * time.Second

// The bounds of MaxKeep and Grace.
const (
	maxMaxKeep = time.Hour
	maxGrace   = time.Hour
)

// completeKeeping checks what says whom the server keeps.
func (o *Options) completeKeeping() error {
	switch {
	case o.MaxKeep == 0:
		o.MaxKeep = DefaultMaxKeep
	case o.MaxKeep < 0:
		o.MaxKeep = 0
	}
	if o.MaxKeep > maxMaxKeep {
		return optionError("max-keep", "must be at most %v, not %v: nobody else gets what a client holds for so long that is gone for good", maxMaxKeep, o.MaxKeep)
	}
	if o.MaxKeep > 0 && o.MaxKeep < time.Millisecond {
		return optionError("max-keep", "must be a millisecond at least, or 0 to keep nobody, not %v", o.MaxKeep)
	}
	if o.Grace > maxGrace {
		return optionError("grace", "must be at most %v, not %v", maxGrace, o.Grace)
	}
	if o.MaxKeep == 0 && o.State != "" {
		return optionError("state", "is for nothing without clients that are kept: leave it out, or give a max-keep")
	}
	return nil
}

// store has what is stored for sessions in the state file.
type store struct{ *state.File }

func (s store) Keep(k session.KeyHash, ms uint64, done func(error)) {
	s.File.Keep(state.Key(k), ms, done)
}

func (s store) Forget(k session.KeyHash, done func(error)) { s.File.Forget(state.Key(k), done) }

// openState opens the state file, if there is to be one, and says in the configuration
// what is in it.
func (s *Server) openState(cfg *conn.Config) error {
	o := &s.opts
	cfg.Session.MaxKeep = o.MaxKeep
	if o.State == "" {
		return nil
	}
	file, found, err := state.Open(o.State, o.Logger)
	if err != nil {
		return &OptionError{"state", err}
	}
	s.state = file
	cfg.Session.Store = store{file}
	cfg.Session.Table.Start, cfg.Session.Floor = found.Start, found.Floor
	cfg.Session.Recovery = s.recovery(found)
	return nil
}

// recovery is what the server has to wait for before it gives anybody anything new; nil:
// nothing.
func (s *Server) recovery(found *state.Found) *session.Recovery {
	o := &s.opts
	r := &session.Recovery{Began: found.Opened, Over: s.recovered}
	if found.Torn > 0 {
		o.Logger.Info("the state file had an unfinished line at its end, of which nobody was told", "state", o.State, "bytes", found.Torn)
	}
	why := ""
	switch {
	case found.Missing:
		r.Least = max(o.DeadPeerTimeout, o.MaxKeep)
		why = "there was no state file, so nobody knows whom a server before this one has kept (if there was none: `lockd state new` before the first start saves the time)"
	case found.Follows:
		r.Least = max(o.DeadPeerTimeout, o.MaxKeep, found.Lasts)
		why = "the state file was made to follow other servers, whose clients may not know yet that these are gone"
	case o.Grace != 0:
		r.Least = max(o.Grace, 0)
		why = "as --grace says"
	case found.OtherBoot:
		r.Least = o.DeadPeerTimeout
		why = "the machine has been started since, so clients may not know yet that the server was gone"
	}
	for key, ms := range found.Keys {
		r.Keys = append(r.Keys, session.StoredKey{Key: session.KeyHash(key), MS: ms})
	}
	if len(r.Keys) == 0 && r.Least == 0 {
		return nil
	}
	if len(r.Keys) > 0 {
		if why != "" {
			why += "; and "
		}
		why += "clients that were kept may come back to what they hold"
	}
	longest := r.Least
	for _, k := range r.Keys {
		longest = max(longest, time.Duration(k.MS)*time.Millisecond)
	}
	o.Logger.Info("recovering: nobody gets anything new for now", "for-at-most", longest, "kept-clients", len(r.Keys), "why", why)
	return r
}

// recovered is told that it is over.
func (s *Server) recovered(end session.RecoveryEnd) {
	s.opts.Logger.Info("recovered: everything is as ever", "after", end.Took.Round(time.Millisecond), "came-back", end.Came, "did-not", end.Lost)
}

// closeState gives the state file back.
func (s *Server) closeState() {
	if s.state != nil {
		s.state.Close()
	}
}
