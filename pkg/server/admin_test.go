package server_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// startAdmin starts a server that listens for lines and for those who operate it.
func startAdmin(tb testing.TB, opts server.Options) (s *server.Server, tcp, admin string) {
	tb.Helper()
	opts.TCP, opts.Admin = []string{"127.0.0.1:0"}, "127.0.0.1:0"
	s = listen(tb, opts)
	return s, s.Addrs()[0].String(), s.Addrs()[1].String()
}

// DNS rebinding: whoever asks the admin address for a name that is not known is
// refused, on any page and by any method.
func TestAdminDNSRebinding(t *testing.T) {
	t.Parallel()
	_, _, addr := startAdmin(t, server.Options{AllowedHosts: []string{"metrics.example.com"}})
	for _, request := range []string{
		"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET /healthz HTTP/1.1\r\nHost: evil.example:9997\r\n\r\n",
		"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"POST /x HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET http://evil.example/metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	} {
		status, text := sent(t, addr, request).answer()
		if status != http.StatusForbidden || !strings.Contains(text, "--allowed-host") || strings.Contains(text, "lockd_") {
			t.Errorf("%q: %d %.200q", request, status, text)
		}
	}
	for _, request := range []string{
		"GET /metrics HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: " + addr + "\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /metrics HTTP/1.1\r\nHost: metrics.example.com:80\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: [::1]:9997\r\n\r\n",
	} {
		if status := get(t, addr, request); status != http.StatusOK {
			t.Errorf("%q: %d", request, status)
		}
	}
}

// hangers are what keeps a connection to the admin address.
var hangers = map[string]string{
	"no request":                "",
	"half a request":            "GET /metrics HTTP/1.1\r\nHost:",
	"an idle connection":        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"a POST's withheld body":    "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
	"a GET's withheld body":     "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n",
	"a withheld chunk":          "GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
	"a body that is waited for": "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
	"a kick's body":             "POST /api/v1/clients/x/kick HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
	"events unread":             "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"pipelined pages unread":    strings.Repeat("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
}

// scrape gets the metrics over a connection of its own.
func scrape(addr string) error {
	h := &http.Client{Timeout: giveUp, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := h.Get("http://" + addr + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "lockd_build_info") {
		return fmt.Errorf("%s, %d bytes, %v", resp.Status, len(text), err)
	}
	return nil
}

// Scrapers that hang keep no place from others, nor from lock clients: POSTs whose
// bodies never come, pipelined requests whose answers nobody reads, and so on. Who is
// ended comes again, so that all places are taken all the time.
func TestAdminHangers(t *testing.T) {
	t.Parallel()
	for what, request := range hangers {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			log := new(syncBuilder)
			_, tcp, addr := startAdmin(t, server.Options{Logger: slog.New(slog.NewTextHandler(log, nil))})
			over := make(chan struct{})
			var all sync.WaitGroup
			var hanging sync.WaitGroup
			hang := func(first func()) {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					first()
					return
				}
				defer c.Close()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					io.WriteString(c, request)
					first()
					if strings.Contains(what, "unread") {
						<-over
					}
					io.Copy(io.Discard, c)
				}()
				select {
				case <-ended:
				case <-over:
					c.Close()
					<-ended
				}
			}
			for range 40 { // places, and some
				hanging.Add(1)
				all.Go(func() {
					first := sync.OnceFunc(hanging.Done)
					for {
						hang(first)
						select {
						case <-over:
							return
						default:
						}
					}
				})
			}
			if !strings.Contains(what, "unread") {
				hanging.Wait()
			}
			for range 3 {
				if err := scrape(addr); err != nil {
					t.Error(err)
				}
			}
			c, err := net.Dial("tcp", tcp)
			newClient(t, c, err).ask("g foo", "1 Lock Get Success: foo")
			close(over)
			all.Wait()
			if n := strings.Count(log.String(), "too many connections to the admin address"); n > 1 || n == 0 && strings.Contains(what, "request") {
				t.Errorf("the log: %q", log.String())
			}
		})
	}
}

// A connection is kept between requests, which scrapers make use of.
func TestAdminKeepsAlive(t *testing.T) {
	t.Parallel()
	_, _, addr := startAdmin(t, server.Options{})
	c := sent(t, addr, "")
	for range 3 {
		c.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(c.in, nil)
		must(t, err)
		if text, err := io.ReadAll(resp.Body); err != nil || resp.Close || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "lockd_build_info") {
			t.Fatalf("got %v, %v", resp, err)
		}
	}
}

// As many scrapers as there are places, and more, are all answered. It runs by itself:
// on a machine that is busy with other tests some would take long enough to give their
// places up.
func TestAdminManyScrapers(t *testing.T) {
	_, _, addr := startAdmin(t, server.Options{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 3 {
				if err := scrape(addr); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}
