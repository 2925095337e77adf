//go:build !linux || noloop

package conn

import (
	"net"

	"github.com/nylen/lockd/internal/session"
)

// loops are there on Linux alone. Elsewhere, and with the build tag noloop,
// each connection has a goroutine.
type loops struct{}

// Open does nothing: there is nobody but Serve to accept connections.
func (s *Server) Open(*Listener) {}

// CatchUp implements session.Network.
func (s *Server) CatchUp(func()) bool { return false }

// askLoops has nobody to ask.
func (s *Server) askLoops() []<-chan struct{} { return nil }

func (s *Server) adopt(net.Conn, Transport, []byte) bool { return false }

func (s *Server) drainLoops() {}
func (s *Server) cutLoops()   {}
func (s *Server) endLoops()   {}

// An acceptor accepts for a loop.
type acceptor struct{}

func (*acceptor) open() bool  { return false }
func (*acceptor) wait() error { return nil }
func (*acceptor) Close()      {}

func descriptor(net.Conn) int32           { return -1 }
func goneFromLoops([]session.Carrier) int { return -1 }
func endFromLoop(session.Carrier, error)  {}
func wantFromLoop(session.Carrier)        {}

func (s *Server) releaseClient(session.Carrier) {}
