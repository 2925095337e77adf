package client_test

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/nylen/lockd/pkg/client"
)

// lists are the requests whose reply has many lines.
var lists = map[string]func(context.Context, *client.Client) error{
	"Dump":          func(ctx context.Context, c *client.Client) error { _, _, err := c.Dump(ctx, "x"); return err },
	"DumpAll":       func(ctx context.Context, c *client.Client) error { _, err := c.DumpAll(ctx); return err },
	"DumpShared":    func(ctx context.Context, c *client.Client) error { _, err := c.DumpShared(ctx, "x"); return err },
	"DumpAllShared": func(ctx context.Context, c *client.Client) error { _, err := c.DumpAllShared(ctx); return err },
	"Clients":       func(ctx context.Context, c *client.Client) error { _, err := c.Clients(ctx, ""); return err },
	"Stats":         func(ctx context.Context, c *client.Client) error { _, err := c.Stats(ctx); return err },
}

// TestMaxReply: a list may be as long as the options say, and each list anew.
// One that is longer ends the connection.
func TestMaxReply(t *testing.T) {
	const line = "x: 1\n"
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			ctx := within(t)
			c, s := scripted(t, client.Options{MaxReply: 3*len(line) + 1})
			answer := func(lines string) {
				t.Helper()
				if _, err := s.r.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
				s.reply(lines + "0 Lock Not Locked: " + s.expectMark() + "\n")
			}
			errs := make(chan error)
			ask := func() { errs <- list(ctx, c) }
			go ask()
			s.reply("0 Lock Not Locked: " + s.expectMark() + "\n") // which server it is
			answer(strings.Repeat(line, 3))
			must(t, <-errs)
			go ask()
			answer(strings.Repeat(line, 2) + "x: 10\n")
			must(t, <-errs)
			go ask()
			answer(strings.Repeat(line, 2) + "x: 100\n")
			if err := <-errs; err == nil {
				t.Fatal("a longer list was taken")
			} else {
				mustBeLost(t, c, err, client.ErrReplyTooLong)
			}
		})
	}
}

// TestMaxReplyEndless: a list without an end ends, even if nobody waits for it
// any more.
func TestMaxReplyEndless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := start(t, client.Options{
			MaxReply: 1 << 20,
			Dial:     func(context.Context) (net.Conn, error) { return near, nil },
		})
		s := &script{t: t, conn: far}
		ctx, cancel := context.WithCancel(t.Context())
		written := make(chan int)
		go func() {
			b := make([]byte, 100)
			n, _ := far.Read(b)
			s.reply("0 Lock Not Locked: " + strings.TrimSpace(strings.TrimPrefix(string(b[:n]), "i ")) + "\n")
			far.Read(b)
			cancel()
			synctest.Wait()
			sum := 0
			for sum < 16<<20 {
				n, err := io.WriteString(far, strings.Repeat("x: 1\n", 100))
				if sum += n; err != nil {
					break
				}
			}
			far.Close()
			written <- sum
		}()
		_, err := c.Stats(ctx)
		mustBe(t, err, context.Canceled)
		if sum := <-written; sum > 1<<20+8<<10 {
			t.Errorf("%d bytes were read", sum)
		}
		mustBeLost(t, c, c.Err(), client.ErrReplyTooLong)
	})
}

// TestRespelledTooLong: a server may rewrite a name that is not ASCII, and not
// make it as long as it likes: the client keeps it.
func TestRespelledTooLong(t *testing.T) {
	for reply, want := range map[string]error{
		strings.Repeat("y", 6): nil,
		strings.Repeat("y", 7): client.ErrProtocol,
	} {
		c, s := scripted(t, client.Options{})
		errs := make(chan error)
		go func() { errs <- c.Get(within(t), "\u00e9") }()
		s.expect("g \u00e9")
		s.reply("1 Lock Get Success: " + reply + "\n")
		if err := <-errs; want == nil {
			must(t, err)
		} else {
			mustBe(t, err, want)
		}
	}
}
