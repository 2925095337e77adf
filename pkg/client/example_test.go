package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// inMemory returns options for a client of a server in the same process.
func inMemory(s *server.Server) client.Options {
	return client.Options{Dial: func(context.Context) (net.Conn, error) { return s.Dial() }}
}

func Example() {
	ctx := context.Background()
	s, err := server.New(server.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Shutdown(ctx)

	// A server elsewhere: client.Options{Target: "tcp://locks.example:9999"}.
	alice, err := client.New(inMemory(s))
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := client.New(inMemory(s))
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	fmt.Println("alice gets it:", alice.Get(ctx, "nightly report"))
	err = bob.Get(ctx, "nightly report")
	fmt.Println("bob has to leave it:", errors.Is(err, client.ErrNotAcquired))

	fmt.Println("alice is done:", alice.Release(ctx, "nightly report"))
	fmt.Println("bob gets it:", bob.Get(ctx, "nightly report"))

	// Output:
	// alice gets it: <nil>
	// bob has to leave it: true
	// alice is done: <nil>
	// bob gets it: <nil>
}

// A fleet takes turns at something that bears three at a time.
func ExampleClient_GetShared() {
	ctx := context.Background()
	s, err := server.New(server.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Shutdown(ctx)

	const limit = 3
	for i := range 4 {
		c, err := client.New(inMemory(s))
		if err != nil {
			log.Fatal(err)
		}
		defer c.Close()
		n, err := c.GetShared(ctx, "the database")
		if err != nil {
			log.Fatal(err)
		}
		if n > limit {
			fmt.Printf("client %d would be number %d and leaves\n", i, n)
			if err := c.ReleaseShared(ctx, "the database"); err != nil {
				log.Fatal(err)
			}
			continue
		}
		fmt.Printf("client %d is number %d\n", i, n)
	}

	// Output:
	// client 0 is number 1
	// client 1 is number 2
	// client 2 is number 3
	// client 3 would be number 4 and leaves
}

// Work under a lock stops when the lock is lost.
func ExampleClient_Lost() {
	s, err := server.New(server.Options{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(inMemory(s))
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	if err := c.Get(ctx, "the work"); err != nil {
		log.Fatal(err)
	}
	go func() {
		select {
		case <-c.Lost():
			cancel(c.Err())
		case <-ctx.Done():
		}
	}()

	atOnce, now := context.WithCancel(context.Background())
	now()
	s.Shutdown(atOnce) // a server that goes down in the middle of the work

	<-ctx.Done() // the work, which takes ctx
	fmt.Println(errors.Is(context.Cause(ctx), client.ErrLost))

	// Output:
	// true
}
