package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nylen/lockd/pkg/server"
)

const pipelined = 100_000

// pipelinedExchange returns request number i and the reply to it, all without
// newlines. The last ones release what the first ones got.
func pipelinedExchange(i int) (request, reply string) {
	switch n := i / 5; i % 5 {
	case 0:
		return fmt.Sprintf("g name %d", n), fmt.Sprintf("1 Lock Get Success: name %d", n)
	case 1:
		return fmt.Sprintf("i name %d", n), fmt.Sprintf("1 Lock Is Locked: name %d", n)
	case 2:
		return fmt.Sprintf("sg name %d", n), fmt.Sprintf("1 Shared Lock Get Success: name %d", n)
	case 3:
		return fmt.Sprintf("r name %d", n), fmt.Sprintf("1 Lock Release Success: name %d", n)
	default:
		return fmt.Sprintf("sr name %d", n), fmt.Sprintf("1 Shared Lock Release Success: name %d", n)
	}
}

// "Requests may be pipelined without limit; replies come in order."
func TestPipelining(t *testing.T) {
	t.Parallel()
	var requests, messages strings.Builder
	for i := range pipelined {
		request, _ := pipelinedExchange(i)
		requests.WriteString(request + "\n")
		messages.WriteString(message(ws.OpText, request))
	}
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		c.sendAll(requests.String(), c.closeWrite)
		for i := range pipelined {
			if _, reply := pipelinedExchange(i); c.line() != reply+"\n" {
				t.Fatalf("reply %d is not %q", i, reply)
			}
		}
		c.end()
	})
	t.Run("websocket", func(t *testing.T) {
		t.Parallel()
		c := dialWS(t, start(t, server.Options{}).webSocketURL)
		sent := make(chan error, 1)
		go func() {
			_, err := c.Write([]byte(messages.String()))
			sent <- err
		}()
		for i := range pipelined {
			_, reply := pipelinedExchange(i)
			c.expect(ws.OpText, reply+"\n")
		}
		must(t, <-sent)
		c.send(frames(ws.NewCloseFrame(nil)))
		c.expectClose(ws.StatusNormalClosure)
	})
}
