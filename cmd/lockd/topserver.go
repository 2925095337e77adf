package main

import (
	"context"
	"slices"
	"strings"

	"github.com/nylen/lockd/pkg/client"
)

// A topServer is a topSource over the wire.
type topServer struct {
	*client.Client
	version func(context.Context) string
}

func (s topServer) Version(ctx context.Context) string { return s.version(ctx) }

func (s topServer) Numbers(ctx context.Context) (map[string]int64, error) { return s.Figures(ctx) }

func (s topServer) Locks(ctx context.Context, count int, order string) ([]client.TopLock, error) {
	return s.Top(ctx, count, client.LockOrder(order))
}

func (s topServer) Clients(ctx context.Context, count int, order string) ([]client.Connection, error) {
	return s.Connections(ctx, count, client.ClientOrder(order))
}

func (s topServer) Losses(ctx context.Context, count int, name *string) ([]client.Loss, error) {
	switch {
	case name == nil:
		return s.Client.Losses(ctx, count, "")
	case *name != "":
		return s.Client.Losses(ctx, count, *name)
	}
	all, err := s.Client.Losses(ctx, topMost, "") // the empty name asks for all
	return slices.DeleteFunc(all, func(l client.Loss) bool { return l.Name != "" || l.More > 0 }), err
}

// versionOf asks a server for its version, which it tells only at the beginning of
// protocol 2: so that takes a connection of its own, for a moment. It is empty if there
// is no answer.
func versionOf(ctx context.Context, opts client.Options) string {
	ctx, cancel := context.WithTimeout(ctx, topPatience)
	defer cancel()
	c, err := client.Dial(ctx, opts, 1)
	if err != nil {
		return ""
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if c.Send("hello 2") != nil {
		return ""
	}
	line, _, err := c.Read()
	version, is := strings.CutPrefix(string(line), "2 lockd ")
	if err != nil || !is {
		return ""
	}
	return version
}
