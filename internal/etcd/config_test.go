package etcd

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// The rest is tested with real etcds, in test/cluster.

func TestURL(t *testing.T) {
	for _, c := range []struct {
		url    string
		hosts  []string
		prefix string
		secure bool
		wrong  string
	}{
		{url: "etcd://a:2379", hosts: []string{"a:2379"}, prefix: "/lockd"},
		{url: "etcd://a:2379/", hosts: []string{"a:2379"}, prefix: "/lockd"},
		{url: "etcds://a:1,[::1]:2,10.0.0.7:3/x/y/", hosts: []string{"a:1", "[::1]:2", "10.0.0.7:3"}, prefix: "/x/y", secure: true},
		{url: "etcd://a:1/a%20b", hosts: []string{"a:1"}, prefix: "/a b"},
		{url: "", wrong: "is no etcd's URL"},
		{url: "a:1", wrong: "is no etcd's URL"},
		{url: "https://a:1", wrong: "is no etcd's URL"},
		{url: "etcd:///x", wrong: "is no HOST:PORT"},
		{url: "etcd://a", wrong: "is no HOST:PORT"},
		{url: "etcd://a:0", wrong: "is no HOST:PORT"},
		{url: "etcd://a:1,", wrong: "is no HOST:PORT"},
		{url: "etcd://:1", wrong: "is no HOST:PORT"},
		{url: "etcd://a:b", wrong: "is no HOST:PORT"},
		{url: "etcd://user:password@a:1", wrong: "a user goes elsewhere"},
		{url: "etcd://a:1/x?y", wrong: "not asked for"},
		{url: "etcd://a:1/%zz", wrong: "invalid URL escape"},
	} {
		p, err := parse(c.url)
		if c.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), c.wrong) {
				t.Errorf("%q: %v, want %q", c.url, err, c.wrong)
			}
			continue
		}
		if err != nil || !slices.Equal(p.hosts, c.hosts) || p.prefix != c.prefix || p.secure != c.secure {
			t.Errorf("%q: %+v, %v", c.url, p, err)
		}
	}
}

// An etcd that is away, or takes connections and says nothing, is an error when the
// caller's time is over, and Diagnose says which it is.
func TestAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	s, err := Open(Config{URL: "etcd://" + l.Addr().String() + "," + closed.Addr().String() + "/c"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err = s.Read(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	err = s.Diagnose(context.Background(), err)
	want := l.Addr().String() + " takes connections, and does not answer: does it stand still, or have no leader?; " + closed.Addr().String() + ": connection refused"
	if err.Error() != want || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Read(context.Background()); err == nil {
		t.Error("a closed store is read")
	}
}
