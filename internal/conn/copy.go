package conn

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
)

// Copy sends another node what partitions have that are about to move there, over a connection
// of its own, and returns when that one has all of it.
func (s *Server) Copy(ctx context.Context, to session.Peer, parts []session.Part, nonce uint64) error {
	c := s.cfg.Cluster
	conn, err := c.Dial(ctx, to)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	out := []byte(wire.Hello + " 2\n")
	replies := 2 + len(parts) + 1
	if c.Token != nil {
		token, err := c.Token(ctx)
		if err != nil {
			return err
		}
		out = append(out, "0 "+wire.Auth+" "+token+"\n"...)
		replies++
	}
	out = append(out, "0 "+wire.Link+" "+c.World+" "+s.hub.Self()+" "+to.ID+"\n"...)
	if _, err := conn.Write(out); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- awaitReplies(bufio.NewReader(conn), replies) }()
	_, err = s.hub.Copy(parts, nonce, func(lines []byte) error {
		_, err := conn.Write(lines)
		return err
	})
	if err != nil {
		conn.Close()
		return errors.Join(err, <-answered)
	}
	return <-answered
}

// awaitReplies reads so many replies, none of which says no.
func awaitReplies(in *bufio.Reader, n int) error {
	for i := range n {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		if i == 0 { // to hello
			if !bytes.HasPrefix(line, []byte(wire.Hello2)) {
				return fmt.Errorf("the node says %.100q", line)
			}
			continue
		}
		if !bytes.HasPrefix(line, []byte("0 1 ")) {
			return fmt.Errorf("the node does not take the copy: %.100q", line)
		}
	}
	return nil
}
