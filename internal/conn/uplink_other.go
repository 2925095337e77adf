//go:build !linux || noloop

package conn

import "net"

// uplinkSocket is an uplink's connection on an event loop, of which there are none.
type uplinkSocket struct{}

func (u *uplink) socketInit()                   {}
func (u *uplink) onLoop(net.Conn) (bool, error) { return false, nil }
func (u *uplink) writeLocked()                  {}
func (u *uplink) shutLocked()                   {}
