package client

import (
	"context"
	"strconv"
	"strings"
)

// A Peer is a client as the server knows it.
type Peer struct {
	// Addr is its address: IP:PORT, or unix:N for the Nth client to come in
	// over a unix socket.
	Addr string

	// Name is the name under which it registered. It need not be the only one
	// to use that name.
	Name string
}

// Name returns how the server knows this client. Its Name is the Addr again
// unless it has registered another, by Options.Name or SetName.
func (c *Client) Name(ctx context.Context) (Peer, error) {
	_, text, err := c.askText(ctx, me, "")
	if err != nil {
		return Peer{}, err
	}
	addr, name, ok := strings.Cut(text, " ")
	if !ok {
		return Peer{}, &ReplyError{Reply: "1 " + text}
	}
	return Peer{Addr: addr, Name: name}, nil
}

// SetName registers a name for this client, which replaces its address in the
// dumps, and Options.Name. The empty name takes the registration back.
func (c *Client) SetName(ctx context.Context, name string) error {
	_, err := c.ask(ctx, iam, name)
	return err
}

// Clients returns the clients that are registered under name, or all that are
// registered at all if name is empty. From lockd, the latest registration
// comes last; lockd for Node.js tells only one client of a name.
func (c *Client) Clients(ctx context.Context, name string) ([]Peer, error) {
	var peers []Peer
	err := c.list(ctx, who, name, func(line string) error {
		addr, name, err := splitFirst(line)
		if name != "" { // lockd for Node.js also tells who took its name back
			peers = append(peers, Peer{Addr: addr, Name: name})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return peers, nil
}

// Stats returns the server's counters by name, such as "locks", the number of
// names that are locked now, or "command_g", the number of requests g since
// the server started. docs/protocol.md lists them.
func (c *Client) Stats(ctx context.Context) (map[string]int64, error) {
	counters := make(map[string]int64)
	err := c.list(ctx, stats, "", func(line string) error {
		key, value, err := splitFirst(line)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return &ReplyError{Reply: line}
		}
		counters[key] = n
		return nil
	})
	if err != nil {
		return nil, err
	}
	return counters, nil
}
