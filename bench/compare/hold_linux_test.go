package main

import (
	"bufio"
	"fmt"
	"strings"
	"testing"

	embedded "github.com/nylen/lockd/pkg/server"
)

// serve starts a lockd in this process and returns its address.
func serve(t *testing.T, o embedded.Options) string {
	t.Helper()
	o.TCP = []string{"127.0.0.1:0"}
	s, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) })
	return s.Addrs()[0].String()
}

func TestHold(t *testing.T) {
	conns, err := connect(t.Context(), serve(t, embedded.Options{}), 3)
	defer disconnect(conns)
	if err != nil {
		t.Fatal(err)
	}
	lockd := kinds[0]
	if err := lockd.touch(t.Context(), conns); err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{0, 1000} {
		if err := lockd.hold(t.Context(), conns[0], from, 1000); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(conns[1], "q\n")
	in := bufio.NewScanner(conns[1])
	for in.Scan() && !strings.HasPrefix(in.Text(), "locks: ") {
	}
	if in.Text() != "locks: 2000" {
		t.Errorf("got %q", in.Text())
	}
	if err := lockd.hold(t.Context(), conns[2], 1999, 1); err == nil || !strings.Contains(err.Error(), `got "0 Lock Get Failure: held:`) {
		t.Errorf("took what is held: %v", err)
	}
}
