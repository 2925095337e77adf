package server_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// An apiClient asks a server's JSON API.
type apiClient struct {
	tb     testing.TB
	addr   string
	header http.Header
}

func newAPIClient(tb testing.TB, addr string) *apiClient {
	return &apiClient{tb, addr, make(http.Header)}
}

// with returns one that sends a header besides.
func (c *apiClient) with(name, value string) *apiClient {
	h := c.header.Clone()
	h.Set(name, value)
	return &apiClient{c.tb, c.addr, h}
}

// request makes a request with a path as it stands, which net/http's client would
// clean, and returns its reply.
func (c *apiClient) request(method, path, body string) (*http.Response, []byte) {
	c.tb.Helper()
	conn, err := net.Dial("tcp", c.addr)
	must(c.tb, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(giveUp))
	h := c.header.Clone()
	if h.Get("Host") == "" {
		h.Set("Host", c.addr)
	}
	if body != "" {
		h.Set("Content-Length", fmt.Sprint(len(body)))
	}
	out := bufio.NewWriter(conn)
	fmt.Fprintf(out, "%s %s HTTP/1.1\r\n", method, path)
	h.Write(out)
	out.WriteString("\r\n" + body)
	must(c.tb, out.Flush())
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	must(c.tb, err)
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	must(c.tb, err)
	return resp, got
}

// get returns the value of a reply, below the keys that lead to it.
func (c *apiClient) get(path string, keys ...any) any {
	c.tb.Helper()
	resp, body := c.request("GET", "/api/v1/"+path, "")
	if resp.StatusCode != http.StatusOK {
		c.tb.Fatalf("%s: %s %s", path, resp.Status, body)
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		c.tb.Fatalf("%s: %v in %s", path, err, body)
	}
	for _, k := range keys {
		switch at := value.(type) {
		case map[string]any:
			value = at[k.(string)]
		case []any:
			if k.(int) >= len(at) {
				return nil
			}
			value = at[k.(int)]
		default:
			return nil
		}
	}
	return value
}

// code returns the status of a request, and the error that it tells.
func (c *apiClient) code(method, path, body string) (int, string) {
	c.tb.Helper()
	resp, got := c.request(method, "/api/v1/"+path, body)
	var refusal struct{ Error string }
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(got, &refusal); err != nil || refusal.Error == "" {
			c.tb.Errorf("%s %s: %s %q", method, path, resp.Status, got)
		}
	}
	return resp.StatusCode, refusal.Error
}

// kick asks for the end of a client.
func (c *apiClient) kick(addr string) (int, string) {
	return c.with("Content-Type", "application/json").code("POST", "clients/"+url.PathEscape(addr)+"/kick", "{}")
}

func dialLines(tb testing.TB, addr string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	return newClient(tb, c, err)
}

// segment is a name as a segment of a path.
func segment(name string) string { return url.PathEscape(name) }

// A lock is seen within a moment, with who holds it and who waits; and so is its loss.
func TestAPILock(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr)
	a, b := dialLines(t, tcp), dialLines(t, tcp)
	a.ask("iam the builder", "1 ok")
	a.ask("g a lock", "1 Lock Get Success: a lock")
	b.send("gw 60000 a lock\n")
	eventually(t, "the wait is seen", func() bool { return api.get("locks?sort=queue", "locks", 0, "queue") == 1.0 })
	row := api.get("locks?sort=queue", "locks", 0).(map[string]any)
	holder := row["holder"].(map[string]any)
	if row["name"] != "a lock" || row["kind"] != "exclusive" || row["holders"] != 1.0 || row["token"] == nil ||
		holder["name"] != "the builder" || holder["address"] != a.LocalAddr().String() || holder["transport"] != "tcp" {
		t.Errorf("%v", row)
	}
	if got := api.get("locks/a%20lock", "exclusive", "queue", 0, "client", "address"); got != b.LocalAddr().String() {
		t.Errorf("%v waits", got)
	}
	a.Close()
	if got := b.line(); got != "1 Lock Get Success: a lock\n" {
		t.Fatalf("%q", got)
	}
	loss := api.get("locks/a%20lock", "losses", 0).(map[string]any)
	if client := loss["client"].(map[string]any); loss["why"] != "disconnect" || loss["waiting"] != 1.0 || client["name"] != "the builder" {
		t.Errorf("%v", loss)
	}
	if got := api.get("locks/a%20lock", "exclusive", "holder", "address"); got != b.LocalAddr().String() {
		t.Errorf("%v holds it", got)
	}
	if got := api.get("losses?name=a%20lock&why=disconnect", "losses", 0, "seq"); got != loss["seq"] {
		t.Errorf("%v", got)
	}
	if got := api.get("losses?why=kick", "losses", 0); got != nil {
		t.Errorf("%v", got)
	}
}

// Whatever bytes a name has, it comes as text, with its bytes beside it where those
// are not the same, and it can be asked for by them.
func TestAPINames(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr)
	names := []string{
		"", ".", "..", "/", "a//b", "../x", "%2F", "a+b", "a?b#c&d=e;f", "<script>alert(1)</script>", "\"\\\u2028\u2029", "\u202eevil\u2066", "\x00\x01\x1f\x7f", "\xff\xfe", "caf\xc3", "\xed\xa0\x80",
		strings.Repeat("\xf0\x9f\x94\x92x", 800),
	}
	c := dialLines(t, tcp)
	for _, name := range names {
		c.ask("g "+name, "1 Lock Get Success: "+name)
	}
	bytesOf := func(v any) string {
		o := v.(map[string]any)
		if b, ok := o["name_b64"].(string); ok {
			name, err := base64.RawURLEncoding.DecodeString(b)
			must(t, err)
			return string(name)
		}
		return o["name"].(string)
	}
	var listed []string
	for _, row := range api.get("locks", "locks").([]any) {
		listed = append(listed, bytesOf(row))
	}
	slices.Sort(listed)
	want := slices.Sorted(slices.Values(names))
	if !slices.Equal(listed, want) {
		t.Errorf("listed are %q, want %q", listed, want)
	}
	for _, name := range names {
		for _, path := range []string{"locks/" + segment(name), "locks/?name=" + url.QueryEscape(name)} {
			if got := api.get(path); bytesOf(got) != name || got.(map[string]any)["held"] != true {
				t.Errorf("%q: %v", path, got)
			}
		}
		list := api.get("locks?limit=1000&prefix="+url.QueryEscape(name), "locks").([]any)
		if !slices.ContainsFunc(list, func(row any) bool { return bytesOf(row) == name }) {
			t.Errorf("%q is not among those that begin so", name)
		}
	}
	if got := api.get("locks/nobody", "held"); got != false {
		t.Errorf("a lock that nobody holds: %v", got)
	}
}

// A list is gone through by its cursors: each of what stays comes once, whatever comes
// and goes meanwhile. A cursor is of one list, and of one server.
func TestAPIPages(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{})
	_, _, other := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr)
	const n = 150
	a, b := dialLines(t, tcp), dialLines(t, tcp)
	for i := range n {
		a.ask(fmt.Sprint("g stays ", i), fmt.Sprint("1 Lock Get Success: stays ", i))
		a.ask(fmt.Sprint("sg stays ", i), fmt.Sprint("1 Shared Lock Get Success: stays ", i))
		a.ask(fmt.Sprint("rl 10 10000000 1 stays ", i), fmt.Sprint("10 Rate Allowed: stays ", i))
		dialLines(t, tcp).ask("ping", "1 pong")
	}
	for _, c := range []struct {
		list, key string
		want      int
	}{
		{"locks?limit=7", "locks", 2 * n}, {"locks?limit=7&prefix=stays", "locks", 2 * n}, {"locks?limit=7&kind=shared", "locks", n},
		{"locks?limit=7&holder=" + a.LocalAddr().String(), "locks", 2 * n},
		{"rates?limit=7", "rates", n}, {"clients?limit=7&sort=none", "clients", n + 2},
		{"clients?limit=7&sort=age", "clients", n + 2}, {"clients?limit=7&q=127.0.0.1", "clients", n + 2},
	} {
		seen, cursor := map[string]int{}, ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			page := api.get(c.list + "&cursor=" + cursor).(map[string]any)
			rows := page[c.key].([]any)
			if len(rows) > 7 || pages > 3*n {
				t.Fatalf("%s: page %d has %d rows", c.list, pages, len(rows))
			}
			for _, row := range rows {
				row := row.(map[string]any)
				name := fmt.Sprint(row["name"], row["kind"], row["address"])
				if seen[name]++; seen[name] > 1 && strings.HasPrefix(name, "stays") {
					t.Errorf("%s: %s comes again", c.list, name)
				}
			}
			cursor = page["next"].(string)
			b.ask(fmt.Sprint("g comes ", pages), fmt.Sprint("1 Lock Get Success: comes ", pages))
			b.ask(fmt.Sprint("r comes ", pages), fmt.Sprint("1 Lock Release Success: comes ", pages))
		}
		stays := 0
		for name := range seen {
			if c.key == "clients" || strings.HasPrefix(name, "stays") {
				stays++
			}
		}
		if stays != c.want {
			t.Errorf("%s: %d of %d were found", c.list, stays, c.want)
		}
	}
	cursor := api.get("locks?limit=1", "next").(string)
	for _, wrong := range []string{"rates?sort=&cursor=" + cursor, "clients?cursor=" + cursor, "losses?cursor=" + cursor, "locks?sort=queue&cursor=" + cursor, "locks?cursor=" + cursor + "A", "locks?cursor=" + cursor[:5]} {
		code, text := api.code("GET", wrong, "")
		if strings.HasPrefix(wrong, "rates") { // is a place of the same table
			continue
		}
		if code != http.StatusBadRequest || !strings.Contains(text, "first page") {
			t.Errorf("%s: %d %s", wrong, code, text)
		}
	}
	if code, _ := newAPIClient(t, other).code("GET", "locks?cursor="+cursor, ""); code != http.StatusBadRequest {
		t.Errorf("another server's cursor: %d", code)
	}
}

// Who has a reply already is told so.
func TestAPIETags(t *testing.T) {
	t.Parallel()
	opts := server.Options{}
	opts.SampleEvery(time.Hour)
	_, _, addr := startAdmin(t, opts)
	api := newAPIClient(t, addr)
	for _, path := range []string{"/api/v1/stats", "/api/v1/history", "/api/v1/openapi.json"} {
		resp, body := api.request("GET", path, "")
		tag := resp.Header.Get("ETag")
		if tag == "" || len(body) == 0 || resp.Header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: %v", path, resp.Header)
		}
		for _, list := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
			if resp, body := api.with("If-None-Match", list).request("GET", path, ""); resp.StatusCode != http.StatusNotModified || len(body) > 0 || resp.Header.Get("ETag") != tag {
				t.Errorf("%s, %s: %s %q", path, list, resp.Status, body)
			}
		}
		if resp, _ := api.with("If-None-Match", `"x"`).request("GET", path, ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
		if resp, body := api.request("HEAD", path, ""); resp.StatusCode != http.StatusOK || len(body) > 0 || resp.Header.Get("ETag") != tag {
			t.Errorf("HEAD %s: %s %q", path, resp.Status, body)
		}
	}
}

// What there is not is said so, in JSON.
func TestAPIMistakes(t *testing.T) {
	t.Parallel()
	_, _, addr := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr)
	for _, c := range []struct {
		method, path string
		code         int
		text         string
	}{
		{"GET", "", 404, "openapi.json"},
		{"GET", "nothing", 404, "openapi.json"},
		{"GET", "stats/", 404, "openapi.json"},
		{"GET", "locks/a/b", 404, "openapi.json"},
		{"POST", "stats", 405, "use GET"},
		{"DELETE", "locks/x", 405, "use GET"},
		{"GET", "clients/x/kick", 405, "use POST"},
		{"GET", "clients/x", 404, "no client x"},
		{"GET", "locks?sort=age", 400, `sort must be one of queue, oldest, busiest, not "age"`},
		{"GET", "locks?limit=many", 400, `limit must be a number from 1 to 1000, not "many"`},
		{"GET", "locks?limit=1001", 400, "from 1 to 1000"},
		{"GET", "locks?sort=queue&holder=x", 400, "leave out sort"},
		{"GET", "clients?sort=none&q=x", 400, "leave out sort"},
		{"GET", "losses?why=because", 400, "why must be one of"},
		{"GET", "locks?prefix=%zz", 400, "percent-encode"},
		{"GET", "locks?prefix=" + strings.Repeat("x", 10000), 200, ""},
		{"GET", "locks?cursor=!", 400, "first page"},
	} {
		code, text := api.code(c.method, c.path, "")
		if c.code == 404 && c.path == "clients/x" || c.method == "GET" || code != 403 {
			if code != c.code || !strings.Contains(text, c.text) {
				t.Errorf("%s %.100s: %d %s", c.method, c.path, code, text)
			}
		}
	}
	if resp, _ := api.request("PUT", "/api/v1/stats", ""); resp.Header.Get("Allow") != "GET" {
		t.Errorf("%v", resp.Header)
	}
}

// With dumps disabled numbers are told, and no names.
func TestAPINoNames(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{DisableDump: true})
	api := newAPIClient(t, addr)
	c := dialLines(t, tcp)
	c.ask("g secret", "1 Lock Get Success: secret")
	for _, path := range []string{"locks", "locks/secret", "locks?sort=queue", "clients", "clients/" + c.LocalAddr().String(), "rates", "losses"} {
		if code, text := api.code("GET", path, ""); code != http.StatusForbidden || !strings.Contains(text, "--disable-dump") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, _ := api.kick(c.LocalAddr().String()); code != http.StatusForbidden {
		t.Errorf("kick: %d", code)
	}
	if api.get("stats", "names") != false || api.get("stats", "you", "kick") != false {
		t.Errorf("%v", api.get("stats"))
	}
	c.Close()
	events := follow(t, addr)
	for range 3 {
		if _, data := events.next(); strings.Contains(data, "secret") {
			t.Errorf("%s", data)
		}
	}
	eventually(t, "the loss is counted", func() bool { return api.get("stats", "totals", "losses", "disconnect") == 1.0 })
}

// writeRoles writes an auth file with a token for each role: its name.
func writeRoles(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	for _, line := range []string{"reader read", "boss admin", "worker lock", "few read:x"} {
		name, _, _ := strings.Cut(line, " ")
		fmt.Fprintf(&text, "%s sha256:%x\n", line, sha256.Sum256([]byte("token-of-"+name+"-00000000")))
	}
	file := filepath.Join(t.TempDir(), "auth")
	must(t, os.WriteFile(file, []byte(text.String()), 0o600))
	return file
}

func bearerOf(name string) string { return "Bearer token-of-" + name + "-00000000" }

// To look is for role read, to end clients for role admin, also from this machine; and
// who has done that stands in the log.
func TestAPIRoles(t *testing.T) {
	t.Parallel()
	log := new(syncBuilder)
	_, tcp, addr := startAdmin(t, server.Options{AuthFile: writeRoles(t), AuthOn: []string{"none"}, Logger: slog.New(slog.NewTextHandler(log, nil))})
	local := newAPIClient(t, addr)
	far := local.with("X-Forwarded-For", "192.0.2.1")
	victim := dialLines(t, tcp)
	victim.ask("g x", "1 Lock Get Success: x")
	for _, c := range []struct {
		api        *apiClient
		who        string
		look, kick int
		role       string
	}{
		{local, "", 200, 401, "read"},
		{local, "reader", 200, 403, "read"},
		{local, "worker", 200, 403, "read"},
		{local, "wrong", 401, 401, ""},
		{far, "", 401, 401, ""},
		{far, "reader", 200, 403, "read"},
		{far, "worker", 403, 403, ""},
		{far, "few", 403, 403, ""},
		{far, "wrong", 401, 401, ""},
		{far, "boss", 200, 404, "admin"},
		{local, "boss", 200, 404, "admin"},
	} {
		api := c.api
		if c.who != "" {
			api = api.with("Authorization", bearerOf(c.who))
		}
		if code, text := api.code("GET", "stats", ""); code != c.look {
			t.Errorf("%+v: %d %s", c, code, text)
		} else if code == 200 {
			you := api.get("stats", "you").(map[string]any)
			if you["role"] != c.role || you["kick"] != (c.role == "admin") || you["name"] != c.who {
				t.Errorf("%+v: %v", c, you)
			}
		}
		if code, text := api.kick("127.0.0.1:1"); code != c.kick {
			t.Errorf("%+v: %d %s", c, code, text)
		}
	}
	victim.ask("i x", "1 Lock Is Locked: x")
	if code, text := far.with("Authorization", bearerOf("boss")).kick(victim.LocalAddr().String()); code != 200 {
		t.Fatalf("%d %s", code, text)
	}
	if got := local.get("locks/x", "held"); got != false {
		t.Error("what it held is not free")
	}
	if by := local.get("locks/x", "losses", 0, "by"); by == nil || !strings.Contains(by.(string), "boss") {
		t.Errorf("the ledger says %v", by)
	}
	if !strings.Contains(log.String(), "msg=kicked client="+victim.LocalAddr().String()) || !strings.Contains(log.String(), "by-as=boss") {
		t.Errorf("the log: %s", log)
	}
}

// Without an auth file who is on this machine may end clients, and nobody else.
func TestAPIKickWithoutRoles(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr)
	c := dialLines(t, tcp)
	c.ask("hello 2", "2 lockd "+server.Version)
	c.send("5 g x\n")
	c.line()
	who := c.LocalAddr().String()
	if code, text := api.with("X-Forwarded-For", "192.0.2.1").kick(who); code != 403 || !strings.Contains(text, "--auth-file") {
		t.Errorf("from elsewhere: %d %s", code, text)
	}
	if you := api.with("Via", "x").get("stats", "you").(map[string]any); you["kick"] != false || you["role"] != "read" {
		t.Errorf("from elsewhere: %v", you)
	}
	if code, text := api.with("X-Forwarded-Proto", "https").kick(who); code != 403 {
		t.Errorf("by a proxy: %d %s", code, text)
	}
	if code, text := api.kick(who + "#5"); code != 200 { // which ends all of the connection
		t.Errorf("%d %s", code, text)
	}
	c.SetReadDeadline(time.Now().Add(giveUp))
	if _, err := io.Copy(io.Discard, c); err != nil && os.IsTimeout(err) {
		t.Error("it is still there")
	}
	if code, _ := api.kick(who); code != 404 {
		t.Errorf("once more: %d", code)
	}
}

// No page of another site, in the browser of somebody who may, has a client ended, or
// work done.
func TestAPICrossSite(t *testing.T) {
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{})
	api := newAPIClient(t, addr).with("Content-Type", "application/json")
	c := dialLines(t, tcp)
	c.ask("g x", "1 Lock Get Success: x")
	path := "clients/" + segment(c.LocalAddr().String()) + "/kick"
	for what, api := range map[string]*apiClient{
		"another site":       api.with("Sec-Fetch-Site", "cross-site"),
		"another subdomain":  api.with("Sec-Fetch-Site", "same-site"),
		"an old browser":     api.with("Origin", "http://evil.example"),
		"an opaque origin":   api.with("Origin", "null"),
		"another host":       api.with("Host", "evil.example"),
		"rebound, same page": api.with("Host", "evil.example").with("Origin", "http://evil.example"),
	} {
		if code, text := api.code("POST", path, "{}"); code != 403 {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	for what, kind := range map[string]string{"a form": "application/x-www-form-urlencoded", "text": "text/plain", "a file": "multipart/form-data; boundary=x", "nothing": ""} {
		if code, text := newAPIClient(t, addr).with("Content-Type", kind).code("POST", path, "{}"); code != 415 {
			t.Errorf("%s: %d %s", what, code, text)
		}
	}
	for body, want := range map[string]int{"x": 400, "[]": 400, `{"min_age_ms":-1}`: 400, `{"min_age_ms":1e30}`: 400, `{"min_age_ms":9007199254740992}`: 400, `{"min_age_ms":3600000}`: 404, "{" + strings.Repeat(" ", 4096) + "}": 400} {
		if code, text := api.code("POST", path, body); code != want {
			t.Errorf("%.10q: %d %s", body, code, text)
		}
	}
	for _, list := range []string{"stats", "locks", "events"} {
		if code, _ := newAPIClient(t, addr).with("Sec-Fetch-Site", "cross-site").code("GET", list, ""); code != 403 {
			t.Errorf("%s: %d", list, code)
		}
	}
	for origin, want := range map[string]int{"http://evil.example": 403, "null": 403, "http://" + addr: 200} {
		if code, _ := newAPIClient(t, addr).with("Origin", origin).code("GET", "stats", ""); code != want {
			t.Errorf("a browser without Sec-Fetch-Site, at %s: %d", origin, code)
		}
	}
	if code, _ := newAPIClient(t, addr).with("Sec-Fetch-Site", "cross-site").with("Sec-Fetch-Mode", "navigate").code("GET", "stats", ""); code != 200 {
		t.Errorf("a link: %d", code)
	}
	c.ask("i x", "1 Lock Is Locked: x")
	same := api.with("Sec-Fetch-Site", "same-origin").with("Origin", "http://"+addr)
	if code, text := same.code("POST", path, "{}"); code != 200 {
		t.Errorf("the page itself: %d %s", code, text)
	}
}

// follower follows events.
type follower struct {
	tb testing.TB
	in *bufio.Scanner
	net.Conn
}

func follow(tb testing.TB, addr string, header ...string) *follower {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	must(tb, err)
	tb.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(giveUp))
	request := append([]string{"GET /api/v1/events HTTP/1.1", "Host: localhost"}, header...)
	io.WriteString(c, strings.Join(append(request, "", ""), "\r\n"))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(tb, err)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		text, _ := io.ReadAll(resp.Body)
		tb.Fatalf("%s %v %s", resp.Status, resp.Header, text)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	return &follower{tb, in, c}
}

// next returns the next event.
func (f *follower) next() (event, data string) {
	f.tb.Helper()
	event, data, err := f.event()
	if err != nil {
		f.tb.Fatal(err)
	}
	return event, data
}

func (f *follower) event() (event, data string, err error) {
	for f.in.Scan() {
		line := f.in.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			event = name
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			data = text
		}
		if line == "" && event != "" {
			return event, data, nil
		}
	}
	if err := f.in.Err(); err != nil {
		return "", "", err
	}
	return "", "", io.EOF
}

// Who follows events gets the stats, and then a sample each second, and what was lost.
func TestAPIEvents(t *testing.T) {
	t.Parallel()
	opts := server.Options{}
	opts.SampleEvery(20 * time.Millisecond)
	_, tcp, addr := startAdmin(t, opts)
	f := follow(t, addr)
	if event, data := f.next(); event != "hello" || !strings.Contains(data, `"version":"`+server.Version+`"`) {
		t.Fatalf("%s %s", event, data)
	}
	holder := dialLines(t, tcp)
	for i := range 30 {
		holder.ask(fmt.Sprint("g lock ", i), fmt.Sprint("1 Lock Get Success: lock ", i))
	}
	// A viewer may be there for longer than a request may take to come.
	sampled := func(key string, want float64) {
		t.Helper()
		for {
			event, data := f.next()
			var sample map[string]any
			if event == "sample" {
				must(t, json.Unmarshal([]byte(data), &sample))
				if sample[key] == want {
					return
				}
			}
		}
	}
	sampled("locks", 30)
	holder.Close()
	for last := 0.0; last < 30; {
		event, data := f.next()
		if event != "losses" {
			continue
		}
		var losses []map[string]any
		must(t, json.Unmarshal([]byte(data), &losses))
		if len(losses) == 0 || len(losses) > 20 {
			t.Fatalf("%d losses at a time", len(losses))
		}
		for _, l := range losses {
			if seq := l["seq"].(float64); seq <= last {
				t.Fatalf("%v after %v", seq, last)
			} else {
				last = seq
			}
		}
	}
	sampled("locks", 0)
}

// A viewer who reads stays for longer than other requests may take.
func TestAPIEventsLast(t *testing.T) {
	t.Parallel()
	_, _, addr := startAdmin(t, server.Options{})
	f := follow(t, addr)
	for began := time.Now(); time.Since(began) < 12*time.Second; {
		f.next()
	}
}

// There are only so many viewers. One who does not read is cut off, and does not keep
// others from anything meanwhile.
func TestAPIHungViewers(t *testing.T) {
	t.Parallel()
	opts := server.Options{}
	opts.SampleEvery(time.Millisecond)
	_, tcp, addr := startAdmin(t, opts)
	const most = 16
	for range most {
		c, err := net.Dial("tcp", addr)
		must(t, err)
		defer c.Close()
		c.(*net.TCPConn).SetReadBuffer(2048)
		io.WriteString(c, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.SetReadDeadline(time.Now().Add(giveUp))
		if n, err := io.ReadFull(c, make([]byte, 15)); err != nil { // it is one of the viewers
			t.Fatal(n, err)
		}
	}
	api := newAPIClient(t, addr)
	if resp, text := api.request("GET", "/api/v1/events", ""); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s %s", resp.Status, text)
	}
	for range 40 {
		must(t, scrape(addr))
		api.get("stats")
	}
	dialLines(t, tcp).ask("g foo", "1 Lock Get Success: foo")
	eventually(t, "the viewers that hang are cut off", func() bool {
		all := make([]net.Conn, 0, most)
		defer func() {
			for _, c := range all {
				c.Close()
			}
		}()
		for range most {
			c, status := view(t, addr)
			if all = append(all, c); status != http.StatusOK {
				return false
			}
		}
		return true
	})
}

// view asks for events, and returns the beginning of the answer.
func view(t *testing.T, addr string) (c net.Conn, status int) {
	c, err := net.Dial("tcp", addr)
	must(t, err)
	c.SetDeadline(time.Now().Add(giveUp))
	io.WriteString(c, "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	must(t, err)
	return c, resp.StatusCode
}

// Viewers who read keep their places when all are taken and others hang.
func TestAPIViewersKeepPlaces(t *testing.T) {
	t.Parallel()
	_, _, addr := startAdmin(t, server.Options{})
	f := follow(t, addr)
	over := make(chan struct{})
	hanging := make(chan struct{})
	go func() {
		defer close(hanging)
		var all []net.Conn
		for {
			select {
			case <-over:
				for _, c := range all {
					c.Close()
				}
				return
			default:
			}
			c, err := net.Dial("tcp", addr)
			if err == nil {
				all = append(all, c)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	for range 5 {
		f.next()
	}
	close(over)
	<-hanging
}

// Viewers end with the server, at once, and are told that it drains before.
func TestAPIViewersEnd(t *testing.T) {
	t.Parallel()
	opts := server.Options{}
	opts.SampleEvery(10 * time.Millisecond)
	s, tcp, addr := startAdmin(t, opts)
	f := follow(t, addr)
	f.next()
	c := dialLines(t, tcp)
	c.ask("g x", "1 Lock Get Success: x")
	done := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		s.Shutdown(ctx)
	}()
	eventually(t, "it drains", func() bool { return newAPIClient(t, addr).get("stats", "draining") == true })
	f.next()
	cancel()
	for {
		if _, _, err := f.event(); err != nil {
			break
		}
	}
	<-done
}

// Who may not look any more is shown nothing more.
func TestAPIViewersLoseRole(t *testing.T) {
	t.Parallel()
	file := writeRoles(t)
	opts := server.Options{AuthFile: file}
	opts.SampleEvery(10 * time.Millisecond)
	s, _, addr := startAdmin(t, opts)
	f := follow(t, addr, "Authorization: "+bearerOf("reader"), "X-Forwarded-For: 192.0.2.1")
	f.next()
	f.next()
	must(t, os.WriteFile(file, []byte("# nobody\n"), 0o600))
	must(t, s.Reload())
	for {
		if _, _, err := f.event(); err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// On the server's machine anybody may look on, also who has shown a token of a role that
// may not from elsewhere.
func TestAPIEventsOfLocks(t *testing.T) {
	t.Parallel()
	opts := server.Options{AuthFile: writeRoles(t)}
	opts.SampleEvery(10 * time.Millisecond)
	_, _, addr := startAdmin(t, opts)
	f := follow(t, addr, "Authorization: "+bearerOf("worker"))
	for range 5 {
		f.next()
	}
}

// With more locks than a search looks at for a page, everything is answered, a search
// goes on until it has found what there is, and who locks goes on.
func TestAPIManyLocks(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some hundred thousand locks")
	}
	t.Parallel()
	_, tcp, addr := startAdmin(t, server.Options{MaxShare: []string{"off"}})
	const locks = 300_000 // a search looks at 200,000
	holder := dialLines(t, tcp)
	holder.ask("iam holder", "1 ok")
	go func() {
		out := bufio.NewWriter(holder)
		for i := range locks {
			fmt.Fprintf(out, "g many/%d\n", i)
		}
		out.WriteString("g needle\n")
		out.Flush()
	}()
	for range locks + 1 {
		if got := holder.line(); got[0] != '1' {
			t.Fatal(got)
		}
	}
	few := dialLines(t, tcp)
	few.ask("g few/1", "1 Lock Get Success: few/1")
	few.ask("sg few/2", "1 Shared Lock Get Success: few/2")
	over := make(chan struct{})
	busy := make(chan error)
	go func() { // somebody who locks meanwhile
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			busy <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(10 * giveUp))
		in := bufio.NewReader(c)
		for {
			select {
			case <-over:
				busy <- nil
				return
			default:
			}
			for _, request := range []string{"g x", "r x"} {
				io.WriteString(c, request+"\n")
				if line, err := in.ReadString('\n'); err != nil || line[0] != '1' {
					busy <- fmt.Errorf("%s: %s, %v", request, line, err)
					return
				}
			}
		}
	}()
	api := newAPIClient(t, addr)
	for _, search := range []struct {
		path string
		want int
	}{{"locks?prefix=needle", 1}, {"locks?holder=" + few.LocalAddr().String(), 2}, {"locks?prefix=nothing", 0}} {
		found, cursor := 0, ""
		for pages := 0; pages == 0 || cursor != ""; pages++ {
			page := api.get(search.path + "&cursor=" + cursor).(map[string]any)
			found += len(page["locks"].([]any))
			if cursor = page["next"].(string); cursor != "" && page["partial"] != true {
				t.Errorf("%s: a page of %d is not full", search.path, len(page["locks"].([]any)))
			}
		}
		if found != search.want {
			t.Errorf("%s: found %d", search.path, found)
		}
	}
	for _, sort := range []string{"queue", "oldest", "busiest"} {
		api.get("locks?limit=1000&sort=" + sort)
	}
	if n := len(api.get("locks?sort=oldest&limit=1000", "locks").([]any)); n != 1000 {
		t.Errorf("%d of the oldest", n)
	}
	eventually(t, "the census has all", func() bool { return api.get("clients", "clients", 0, "locks") == float64(locks+1) })
	who := segment(holder.LocalAddr().String())
	if c := api.get("clients/" + who).(map[string]any); len(c["holds"].([]any)) != 1000 || c["partial"] != true || c["name"] != "holder" {
		t.Errorf("%d holds, partial: %v", len(c["holds"].([]any)), c["partial"])
	}
	close(over)
	must(t, <-busy)
	if code, text := api.kick(holder.LocalAddr().String()); code != 200 && code != 202 {
		t.Errorf("%d %s", code, text)
	}
	eventually(t, "all is free", func() bool { return api.get("locks/needle", "held") == false })
}
