package server_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// New tells which option is out of its bounds, and takes those at them.
func TestOptions(t *testing.T) {
	t.Parallel()
	with := func(set func(*server.Options, int)) func(int) error {
		return func(n int) error {
			var o server.Options
			set(&o, n)
			_, err := server.New(o)
			return err
		}
	}
	for _, v := range []struct {
		name    string
		make    func(int) error
		ok, bad []int
	}{
		{"shards", with(func(o *server.Options, n int) { o.Shards = n }),
			[]int{0, 1, 2, 1024, 65536}, []int{-1, 3, 12, 65537, 131072}},
		{"max-line", with(func(o *server.Options, n int) { o.MaxLine = n }),
			[]int{0, 16, 1 << 30}, []int{-1, 1, 15, 1<<30 + 1}},
		{"max-output", with(func(o *server.Options, n int) { o.MaxOutput = n }),
			[]int{0, 1, 1 << 30}, []int{-1}},
		{"max-message", with(func(o *server.Options, n int) { o.MaxMessage = n }),
			[]int{0, 1, 1 << 30}, []int{-1}},
		{"max-connections", with(func(o *server.Options, n int) { o.MaxConnections = n }),
			[]int{0, 1, 1 << 30}, []int{-1}},
		{"max-locks", with(func(o *server.Options, n int) { o.MaxLocks = n }),
			[]int{0, 1, 1 << 30}, []int{-1}},
		{"max-locks-per-connection", with(func(o *server.Options, n int) { o.MaxLocksPerConnection = n }),
			[]int{0, 1, 1 << 30}, []int{-1}},
		{"unix-mode", with(func(o *server.Options, n int) { o.UnixMode = fs.FileMode(n) }),
			[]int{0, 0o600, 0o777}, []int{0o1000, 0o4660, 1 << 30}},
	} {
		for _, n := range v.ok {
			if err := v.make(n); err != nil {
				t.Errorf("%s %d: %v", v.name, n, err)
			}
		}
		for _, n := range v.bad {
			if err := v.make(n); err == nil || !strings.Contains(err.Error(), v.name) {
				t.Errorf("%s %d: %v", v.name, n, err)
			}
		}
	}
}

func TestOptionsOrigins(t *testing.T) {
	t.Parallel()
	for origin, ok := range map[string]bool{
		"*": true, "https://example.com": true, "http://localhost:8080": true, "app://x": true, "http://[::1]:80": true,
		"": false, "example.com": false, "https://": false, "//example.com": false,
		"https://example.com/path": false, "example.com:80": false, "https://exa mple.com": false,
	} {
		_, err := server.New(server.Options{WebSocketOrigins: []string{"*", origin}})
		if ok && err != nil {
			t.Errorf("%q: %v", origin, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "websocket-origin")) {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

// The smallest bounds still make a server that works.
func TestSmallestOptions(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{
		Shards: 1, MaxLine: 16, MaxOutput: 1, MaxMessage: 1, MaxConnections: 1, MaxLocks: 1, MaxLocksPerConnection: 1,
	}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		c.send("g foo\ng bar\ni foo\nd foo\ndump\nr foo\nsg bar\nsr bar\ng 0123456789abcdef\n")
		want := "1 Lock Get Success: foo\n0 Too Many Locks: bar\n1 Lock Is Locked: foo\nfoo: {A}\nmap[foo:{A}]\n" +
			"1 Lock Release Success: foo\n1 Shared Lock Get Success: bar\n1 Shared Lock Release Success: bar\n0 Line Too Long\n"
		if err := (addresses{'A': localAddr(c.Conn)}).match(c.reply(want, false), want); err != nil {
			t.Error(err)
		}
	})
}
