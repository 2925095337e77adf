package admin

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// profiled serves the admin pages, with little time for an answer.
func profiled(t *testing.T, g Guard) (addr string) {
	t.Helper()
	h := New(Config{Metrics: new(counting), Ready: func() error { return nil }, Guard: g, Logger: slog.New(slog.DiscardHandler)})
	h.WriteTimeout = 500 * time.Millisecond
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	t.Cleanup(func() {
		h.Close()
		<-served
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, ctx context.Context, url, token string) (code int, body []byte, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// Profiles come whole, also those that take longer than other answers may; what is
// asked for wrongly gets an answer that says so at once.
func TestProfiles(t *testing.T) { // not beside others: a process has one CPU profile at a time
	addr := profiled(t, Guard{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		path, text string
		code       int
	}{
		{"", "/debug/pprof/heap", 200},
		{"profile?seconds=1", "gzip", 200},
		{"trace?seconds=1", "go 1.", 200},
		{"heap", "gzip", 200},
		{"heap?gc=1", "gzip", 200},
		{"heap?debug=1", "heap profile", 200},
		{"allocs", "gzip", 200},
		{"goroutine", "gzip", 200},
		{"goroutine?debug=1", "goroutine profile", 200},
		{"goroutine?debug=2", "stops the whole server", 400},
		{"goroutine?debug=x", "debug must be", 400},
		{"profile?seconds=0", "from 1 to 120", 400},
		{"profile?seconds=121", "from 1 to 120", 400},
		{"profile?seconds=1h", "from 1 to 120", 400},
		{"trace?seconds=121", "from 1 to 120", 400},
		{"cmdline", "no profile \"cmdline\"", 404},
		{"threadcreate", "no profile", 404},
	} {
		code, body, err := get(t, ctx, addr+"/debug/pprof/"+c.path, "")
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if c.text == "gzip" {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err == nil {
				body, err = io.ReadAll(z)
			}
			if err != nil || len(body) == 0 {
				t.Errorf("%s: no profile: %d bytes, %v", c.path, len(body), err)
			}
			c.text = ""
		}
		if code != c.code || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: %d %.200q", c.path, code, body)
		}
	}
}

// A second profile at the same time is refused, and one whose client goes ends then.
func TestProfilesAtATime(t *testing.T) {
	addr := profiled(t, Guard{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, path := range []string{"/debug/pprof/profile?seconds=", "/debug/pprof/trace?seconds="} {
		first, leave := context.WithCancel(ctx)
		over := make(chan error, 1)
		go func() {
			for { // until it is not the second one
				code, _, err := get(t, first, addr+path+"120", "")
				if err != nil || code != http.StatusConflict {
					over <- err
					return
				}
			}
		}()
		for {
			code, body, err := get(t, ctx, addr+path+"1", "")
			if err != nil {
				t.Fatal(err)
			}
			if code == http.StatusConflict && strings.Contains(string(body), "one profile of a kind is made at a time") {
				break
			} // else the first one has not begun yet
		}
		leave()
		if err := <-over; err == nil {
			t.Error("the first one had its answer")
		}
		for { // it ends when the server has noticed
			code, _, err := get(t, ctx, addr+path+"1", "")
			if err != nil {
				t.Fatal(err)
			}
			if code == http.StatusOK {
				break
			}
		}
	}
}

// Profiles are for role admin, from this machine, too.
func TestProfilesAreGuarded(t *testing.T) {
	var denied []string
	addr := profiled(t, newGuard(&denied))
	for _, path := range []string{"", "profile?seconds=1", "trace", "heap", "allocs", "goroutine", "nothing"} {
		for token, code := range map[string]int{"": 401, "r": 403, "l": 403} {
			if got, body, err := get(t, t.Context(), addr+"/debug/pprof/"+path, token); err != nil || got != code {
				t.Errorf("%q, token %q: %d %q, %v", path, token, got, body, err)
			}
		}
	}
	if got, body, err := get(t, t.Context(), addr+"/debug/pprof/heap", "a"); err != nil || got != 200 {
		t.Errorf("admin: %d %q, %v", got, body, err)
	}
	if got, _, err := get(t, t.Context(), addr+"/metrics", ""); err != nil || got != 200 {
		t.Errorf("the metrics: %d, %v", got, err)
	}
}
