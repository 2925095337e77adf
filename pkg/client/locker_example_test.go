package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// newLocker returns a Locker for a server in the same process, and what ends
// both. A server elsewhere is reached with
// client.Options{Target: "tcp://locks.example:9999"}.
func newLocker() (*client.Locker, func()) {
	s, err := server.New(server.Options{})
	if err != nil {
		log.Fatal(err)
	}
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{
		Dial: func(context.Context) (net.Conn, error) { return s.Dial() },
	}})
	if err != nil {
		log.Fatal(err)
	}
	return l, func() {
		l.Close()
		s.Shutdown(context.Background())
	}
}

func ExampleLocker() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	lock, err := l.Acquire(ctx, "nightly report")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("has a token:", lock.Token() > 0)

	// Another goroutine would be kept out just as another program.
	_, err = l.TryAcquire(ctx, "nightly report")
	fmt.Println("held:", errors.Is(err, client.ErrNotAcquired))
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err = l.Acquire(short, "nightly report")
	fmt.Println("waited in vain:", errors.Is(err, context.DeadlineExceeded))

	fmt.Println("released:", lock.Release(ctx))

	// Output:
	// has a token: true
	// held: true
	// waited in vain: true
	// released: <nil>
}

// Goroutines of one Locker exclude each other.
func ExampleLocker_Do() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	sum := 0
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := l.Do(ctx, "the sum", func(ctx context.Context, lock *client.Lock) error {
				// ctx ends when the lock is lost. Whoever stores the result
				// elsewhere sends lock.Token() along.
				sum += i
				return nil
			})
			if err != nil {
				log.Print(err)
			}
		})
	}
	wg.Wait()
	fmt.Println(sum)

	// Output:
	// 4950
}

// A database that bears three jobs at a time.
func ExampleLocker_AcquireShared() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	for range 3 {
		lock, err := l.AcquireShared(ctx, "the database", 3)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("job", lock.Count())
	}
	_, err := l.TryAcquireShared(ctx, "the database", 3)
	fmt.Println("full:", errors.Is(err, client.ErrNotAcquired))

	// Output:
	// job 1
	// job 2
	// job 3
	// full: true
}

func ExampleLimiter() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	mails := l.Limiter("mails to alice", 2, time.Hour)
	for range 3 {
		d, err := mails.Allow(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if d.Allowed {
			fmt.Println("sent, of", d.Open)
		} else {
			fmt.Println("try again in", d.RetryAfter.Round(time.Minute))
		}
	}

	// Output:
	// sent, of 2
	// sent, of 1
	// try again in 30m0s
}

// Whoever finds a lock taken can see by whom.
func ExampleLocker_Look() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	lock, err := l.Acquire(client.WithNote(ctx, "order 17"), "invoices")
	if err != nil {
		log.Fatal(err)
	}
	err = l.TryDo(ctx, "invoices", func(context.Context, *client.Lock) error { return nil })
	if errors.Is(err, client.ErrNotAcquired) {
		entries, err := l.Look(ctx, "invoices")
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range entries {
			fmt.Println(e.Name, e.Kind, e.State, e.Token == lock.Token())
			fmt.Println(e.Registered == client.ProcessName()+" order 17")
		}
	}

	// Output:
	// invoices exclusive held true
	// true
}

// Everything that the server holds for a part of the program.
func ExampleLocker_List() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	for i := range 3 {
		if _, err := l.AcquireShared(ctx, fmt.Sprint("tenant ", i), 0); err != nil {
			log.Fatal(err)
		}
	}
	held := 0
	for e, err := range l.List(ctx, "tenant") {
		if err != nil {
			log.Fatal(err)
		}
		if e.State == client.StateHeld {
			held++
		}
	}
	fmt.Println("held:", held)

	// Output:
	// held: 3
}

// With an old server a Locker tells what it cannot do.
func ExampleLocker_Missing() {
	ctx := context.Background()
	l, end := newLocker()
	defer end()

	missing, err := l.Missing(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, feature := range missing {
		if errors.Is(feature, client.ErrNoRates) {
			fmt.Println("the old server knows no rates")
		}
	}
	fmt.Println(len(missing), "missing")

	// Output:
	// 0 missing
}
