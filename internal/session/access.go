package session

import "sync/atomic"

// A Role is what a client may be there for.
type Role uint8

// The roles. A client has one of them; administrators may do everything, and so may other
// nodes of a cluster, who ask for all their clients.
const (
	RoleLock Role = 1 << iota // takes and releases locks and rates
	RoleRead                  // looks
	RoleAdmin
	RoleNode
)

func (r Role) String() string {
	switch r {
	case RoleLock:
		return "lock"
	case RoleRead:
		return "read"
	case RoleAdmin:
		return "admin"
	case RoleNode:
		return "node"
	}
	return "no role"
}

// An Access is what somebody may do who has shown who that is: by a token, a
// certificate, or as the user of a process. It does not change, but for what has
// taken its place.
type Access struct {
	Name   string // whose it is, for people, and for shares
	Role   Role
	Prefix string // of the names that it is about; "": of all

	next atomic.Pointer[Access] // what has taken its place; nil: nothing
}

// nobody takes the place of an Access that is taken away.
var nobody = new(Access)

// Replace has another Access take its place, or none if that is nil: for clients
// that are there, too, from their next request on.
func (a *Access) Replace(by *Access) {
	if by == nil {
		by = nobody
	}
	a.next.Store(by)
}

// Current returns what has taken its place at last, itself if nothing has, or nil
// if it was taken away.
func (a *Access) Current() *Access {
	for a != nil && a != nobody {
		next := a.next.Load()
		if next == nil {
			return a
		}
		a = next
	}
	return nil
}

// may tells whether a command is within the role. With a prefix that is what is
// about one name, or about the client alone: whatever tells of all is not, unless
// somebody has thought of it.
func (a *Access) may(c *command) bool {
	return c.roles == anybody || (c.roles|RoleAdmin|RoleNode)&a.Role != 0 && (a.Prefix == "" || c.flags&(ofName|ofSelf) != 0)
}

// reaches tells whether a name is within the prefix. To be about all names that
// begin somehow, or about all without a word, is to be about that beginning, unless
// the command leaves out what is not within it.
func (a *Access) reaches(c *command, name []byte) bool {
	if c.flags&leavesOut != 0 && len(name) == 0 {
		return true
	}
	return c.flags&ofName == 0 || len(name) >= len(a.Prefix) && string(name[:len(a.Prefix)]) == a.Prefix
}

// Authority knows who may do what. Any goroutine may ask it.
type Authority interface {
	// Token returns the access of whoever has a token, Cert that of who has a
	// certificate with a name, and UID that of who has a user's number; nil if
	// that is nobody's.
	Token(token []byte) *Access
	Cert(name string) *Access
	UID(uid uint32) *Access
}
