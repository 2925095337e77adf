//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// newcomer gets a lock that nobody else wants, as soon as there is a server that grants
// it: when that was.
func newcomer(ctx context.Context, dial dialer, name string) (time.Duration, error) {
	for ctx.Err() == nil {
		got, err := ask(dial, time.Minute, "gw 60000 "+name)
		if err == nil && strings.HasPrefix(got, "1 Lock Get Success") {
			return now(), nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	return 0, fmt.Errorf("a newcomer gets no lock: %w", ctx.Err())
}

// ask makes one request on a connection of its own.
func ask(dial dialer, wait time.Duration, line string) (string, error) {
	conn, err := dial(time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(wait))
	if _, err := fmt.Fprintf(conn, "%s\n", line); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// spans are measured times.
type spans []time.Duration

func (s spans) String() string {
	if len(s) == 0 {
		return "none"
	}
	all := slices.Sorted(slices.Values(s))
	ms := func(d time.Duration) string { return d.Round(time.Millisecond).String() }
	return fmt.Sprintf("%d times, least %s, median %s, most %s", len(all), ms(all[0]), ms(all[len(all)/2]), ms(all[len(all)-1]))
}
