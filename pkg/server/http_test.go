package server_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// What a page in somebody's browser may send to the line port. Nothing of it
// must run as a request.
const httpPost = "POST / HTTP/1.1\r\nHost: 127.0.0.1:9999\r\nContent-Type: text/plain\r\n" +
	"Content-Length: 30\r\n\r\ng stolen\nsg stolen\niam stolen\n"

func checkRefusal(tb testing.TB, s *server.Server, got, what string) {
	tb.Helper()
	if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Count(got, "HTTP/1.1 400 ") != 1 ||
		strings.Contains(got, "Success") || strings.Contains(got, "1 ok") {
		tb.Fatalf("%s: got %q", what, got)
	}
	for _, verb := range []string{"g", "sg", "iam"} {
		if n := metric(tb, s, "lockd_commands_total", "command="+verb); n != 0 {
			tb.Fatalf("%s: %d of %s were executed", what, n, verb)
		}
	}
}

func TestHTTPSplit(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	for i := range len(httpPost) {
		got := s.run(t, pieces(httpPost[:i], httpPost[i:]))
		checkRefusal(t, s.Server, strings.Join(got, ""), httpPost[:i])
	}
	got := s.run(t, pieces(strings.Split(httpPost, "")...))
	checkRefusal(t, s.Server, strings.Join(got, ""), "byte by byte")
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=http"); n != len(httpPost)+1 {
		t.Errorf("%d counted, not %d", n, len(httpPost)+1)
	}
}

func TestHTTPRequestLines(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	for _, line := range []string{
		"GET / HTTP/1.0", "POST /a/b?c=d HTTP/1.1", "OPTIONS * HTTP/1.1", "PUT http://x/ HTTP/1.1",
		"CONNECT x:443 HTTP/1.1", "PRI * HTTP/2.0", "post / HTTP/1.1", "POST /g%20stolen HTTP/1.1",
		"POST /" + strings.Repeat("x", 4000) + " HTTP/1.1",
		"POST /" + strings.Repeat("x", 5000) + " HTTP/1.1",
		"POST /" + strings.Repeat("x", 500000) + " HTTP/1.1",
		"POST http://x/" + strings.Repeat("x", 5000) + " HTTP/1.1",
	} {
		post := line + "\r\nHost: x\r\n\r\ng stolen\nsg stolen\n"
		got := s.run(t, pieces(post))
		checkRefusal(t, s.Server, strings.Join(got, ""), line[:min(20, len(line))])
	}
}

// A request line over the bound, which the server cannot have whole.
func TestHTTPLongLineSplit(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{MaxLine: 64})
	post := "POST /" + strings.Repeat("x", 100) + " HTTP/1.1\r\nHost: x\r\n\r\ng stolen\nsg stolen\n"
	for i := range len(post) {
		got := s.run(t, pieces(post[:i], post[i:]))
		checkRefusal(t, s.Server, strings.Join(got, ""), post[:i])
	}
	got := s.run(t, pieces(strings.Split(post, "")...))
	checkRefusal(t, s.Server, strings.Join(got, ""), "byte by byte")
}

// What was pipelined before it is answered, what comes after it is not read.
func TestHTTPAfterRequests(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	got := strings.Join(s.run(t, pieces("i foo\nGET / HTTP/1.1\r\ni foo\n", "i foo\n")), "")
	rest, ok := strings.CutPrefix(got, "0 Lock Not Locked: foo\n")
	if !ok || !strings.HasPrefix(rest, "HTTP/1.1 400 ") || strings.Contains(rest, "Lock Not Locked") {
		t.Errorf("got %q", got)
	}
}

// An HTTP client gets a proper answer, with words for who reads it.
func TestHTTPClient(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	h := &http.Client{Timeout: giveUp, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, body := range []string{"g stolen\n", strings.Repeat("g stolen\n", 100_000)} {
		resp, err := h.Post("http://"+s.tcp+"/", "text/plain", strings.NewReader(body))
		must(t, err)
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		must(t, err)
		if resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "lockd") {
			t.Errorf("got %s, %q", resp.Status, text)
		}
	}
	s.dial(t, "tcp").ask("i stolen", "0 Lock Not Locked: stolen")
	if n := metric(t, s.Server, "lockd_commands_total", "command=g"); n != 0 {
		t.Errorf("%d gets were executed", n)
	}
}
