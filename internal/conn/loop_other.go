//go:build !linux || noloop

package conn

import "net"

// loops are there on Linux alone. Elsewhere, and with the build tag noloop,
// each connection has a goroutine.
type loops struct{}

func (h *Hub) adopt(net.Conn, Transport) bool { return false }

func (h *Hub) drainLoops() {}
func (h *Hub) cutLoops()   {}
func (h *Hub) endLoops()   {}
