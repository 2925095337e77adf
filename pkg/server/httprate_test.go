package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// A rateCaller asks a server for units over HTTP, over connections of its own.
type rateCaller struct {
	tb   testing.TB
	url  string // of /api/v1/rates
	addr string
	to   http.Client
}

// startRates starts a server with an address for rates, too.
func startRates(tb testing.TB, opts server.Options) (*testServer, *rateCaller) {
	tb.Helper()
	opts.HTTP = []string{"127.0.0.1:0"}
	s := start(tb, opts)
	return s, s.caller(tb)
}

func (s *testServer) caller(tb testing.TB) *rateCaller {
	tb.Helper()
	for _, a := range s.Addrs() {
		if a.Transport == "http" {
			transport := &http.Transport{}
			tb.Cleanup(transport.CloseIdleConnections)
			return &rateCaller{tb, "http://" + a.String() + "/api/v1/rates", a.String(), http.Client{Transport: transport, Timeout: giveUp}}
		}
	}
	tb.Fatal("no address for rates")
	return nil
}

// A rateAnswer is an answer.
type rateAnswer struct {
	status int
	header http.Header
	body   string
	last   bool // of its connection

	Allowed    bool
	Limit      int
	Remaining  int
	RetryAfter int `json:"retry_after_ms"`
	Error      string
}

// do sends a request whose path begins behind /api/v1/rates, with header fields NAME: VALUE.
func (c *rateCaller) do(method, path, body string, fields ...string) *rateAnswer {
	c.tb.Helper()
	to := c.url + path
	if strings.HasPrefix(path, "http") {
		to = path
	}
	r, err := http.NewRequest(method, to, strings.NewReader(body))
	must(c.tb, err)
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		if name == "Host" {
			r.Host = value
		}
		r.Header.Add(name, value)
	}
	res, err := c.to.Do(r)
	must(c.tb, err)
	return read(c.tb, res)
}

func read(tb testing.TB, res *http.Response) *rateAnswer {
	tb.Helper()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(tb, err)
	a := &rateAnswer{status: res.StatusCode, header: res.Header, body: string(text), last: res.Close}
	if err := json.Unmarshal(text, a); err != nil || !strings.HasSuffix(a.body, "}\n") || strings.Count(a.body, "\n") != 1 {
		tb.Errorf("%d: the body is %q", a.status, text)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := a.header.Get(name); got != want {
			tb.Errorf("%s: %q", name, got)
		}
	}
	return a
}

// get asks as a proxy does, for one unit of a hundred a day.
func (c *rateCaller) get(path string, fields ...string) *rateAnswer {
	c.tb.Helper()
	sign := "?"
	if strings.Contains(path, "?") {
		sign = "&"
	}
	return c.do("GET", path+sign+"limit=100&window=24h", "", fields...)
}

// refused checks an answer that is no decision.
func (a *rateAnswer) refused(tb testing.TB, what string, status int, text string) {
	tb.Helper()
	if a.status != status || !strings.Contains(a.Error, text) || a.header.Get("RateLimit") != "" || (a.header.Get("Retry-After") != "") != (status == 503) {
		tb.Errorf("%s: %d %q, %v, not %d %q", what, a.status, a.body, a.header, status, text)
	}
}

// What an answer says is what the table has decided, in the body as in the header.
func TestHTTPRates(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{})
	check := func(a *rateAnswer, status, remaining int, limit, policy string) {
		t.Helper()
		wantRetry := status != 200
		if a.status != status || a.Allowed != (status == 200) || a.Remaining != remaining || (a.RetryAfter > 0) != wantRetry {
			t.Errorf("%d %s, not %d and %d left", a.status, a.body, status, remaining)
		}
		if !regexp.MustCompile("^" + limit + "$").MatchString(a.header.Get("RateLimit")) {
			t.Errorf("RateLimit: %s, not %s", a.header.Get("RateLimit"), limit)
		}
		if got := a.header.Get("RateLimit-Policy"); got != policy {
			t.Errorf("RateLimit-Policy: %s, not %s", got, policy)
		}
		want := ""
		if wantRetry {
			want = strconv.Itoa((a.RetryAfter + 999) / 1000)
		}
		if got := a.header.Get("Retry-After"); got != want {
			t.Errorf("Retry-After: %q, not %q", got, want)
		}
	}
	const policy = `"default";q=5;w=86400`
	const day = "?limit=5&window=24h"
	check(c.do("GET", "/day/take"+day+"&cost=0", ""), 200, 5, `"default";r=5`, policy)
	check(c.do("GET", "/day/take"+day, ""), 200, 4, `"default";r=4;t=17280`, policy)
	check(c.do("POST", "/day/take"+day, ""), 200, 3, `"default";r=3;t=17\d\d\d`, policy)
	check(c.do("POST", "/day/take", `{"limit": 5, "window": "24h", "cost": 2}`), 200, 1, `"default";r=1;t=17\d\d\d`, policy)
	check(c.do("POST", "/day/take"+day, `{"cost": 2}`), 429, 1, `"default";r=1;t=17\d\d\d`, policy)
	check(c.do("POST", "/take?name=day", `{"limit":5,"window":"1440m"}`), 200, 0, `"default";r=0;t=17\d\d\d`, policy)
	check(c.do("POST", "/take", `{"name":"day","limit":5,"window":"1440m"}`), 429, 0, `"default";r=0;t=17\d\d\d`, policy)
	check(c.do("GET", "/day/take"+day+"&denied=429", ""), 429, 0, `"default";r=0;t=17\d\d\d`, policy)
	check(c.do("GET", "/day/take"+day+"&denied=403&policy=per-day_1.x", ""), 403, 0, `"per-day_1.x";r=0;t=17\d\d\d`, `"per-day_1.x";q=5;w=86400`)
	check(c.do("GET", "/day/take"+day+"&cost=0", ""), 200, 0, `"default";r=0;t=17\d\d\d`, policy)

	// A window that is no whole seconds is in no field; what comes back is, rounded up.
	check(c.do("GET", "/short/take?limit=1&window=1500ms", ""), 200, 0, `"default";r=0;t=2`, `"default";q=1`)
	// The bounds of the numbers.
	check(c.do("GET", "/most/take?limit=4294967294&window=86400s&cost=4294967294", ""), 200, 0, `"default";r=0;t=1`, `"default";q=4294967294;w=86400`)
	check(c.do("GET", "/least/take?limit=1&window=1ms", ""), 200, 0, `"default";r=0;t=1`, `"default";q=1`)

	// It comes back when Retry-After says so, and not before the rate does.
	check(c.do("GET", "/soon/take?limit=1&window=20ms", ""), 200, 0, `"default";r=0;t=1`, `"default";q=1`)
	time.Sleep(21 * time.Millisecond)
	check(c.do("GET", "/soon/take?limit=1&window=20ms", ""), 200, 0, `"default";r=0;t=1`, `"default";q=1`)
}

// Whatever is wrong is said, in a sentence, and takes nothing.
func TestHTTPRatesRefuse(t *testing.T) {
	t.Parallel()
	s, c := startRates(t, server.Options{})
	const ok = "?limit=5&window=1m"
	long := strings.Repeat("x", 5000)
	for _, q := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"GET", "/n/take", "", 400, "limit is missing"},
		{"GET", "/n/take?limit=5", "", 400, "window is missing"},
		{"POST", "/n/take", "{}", 400, "limit is missing"},
		{"GET", "/n/take?limit=0&window=1m", "", 400, `limit must be a number from 1 to 4294967294, not "0"`},
		{"GET", "/n/take?limit=4294967295&window=1m", "", 400, "limit must be"},
		{"GET", "/n/take?limit=99999999999999999999999&window=1m", "", 400, "limit must be"},
		{"GET", "/n/take?limit=-1&window=1m", "", 400, "limit must be"},
		{"GET", "/n/take?limit=%2B1&window=1m", "", 400, "limit must be"},
		{"GET", "/n/take?limit=&window=1m", "", 400, "limit must be"},
		{"GET", "/n/take?limit=1.5&window=1m", "", 400, "limit must be"},
		{"POST", "/n/take", `{"limit": 5e0, "window": "1m"}`, 400, "limit must be"},
		{"GET", "/n/take?limit=5&window=60", "", 400, `window must be a time with its unit, such as 500ms, 10s or 1m, in whole milliseconds from 1ms to 24h, not "60"`},
		{"GET", "/n/take?limit=5&window=0s", "", 400, "window must be"},
		{"GET", "/n/take?limit=5&window=-1m", "", 400, "window must be"},
		{"GET", "/n/take?limit=5&window=999us", "", 400, "window must be"},
		{"GET", "/n/take?limit=5&window=1.5ms", "", 400, "window must be"},
		{"GET", "/n/take?limit=5&window=24h1ms", "", 400, "window must be"},
		{"GET", "/n/take" + ok + "&cost=6", "", 400, `cost must be a number from 0 to 5, not "6"`},
		{"GET", "/n/take" + ok + "&cost=-1", "", 400, "cost must be"},
		{"GET", "/n/take" + ok + "&limit=100", "", 400, "limit is given twice"},
		{"GET", "/n/take" + ok + "&cost=1&cost=0", "", 400, "cost is given twice"},
		{"GET", "/n/take" + ok + "&name=m", "", 400, "name is given twice"},
		{"POST", "/n/take" + ok, `{"limit": 6}`, 400, "limit is given twice"},
		{"POST", "/n/take", `{"limit": 5, "limit": 6, "window": "1m"}`, 400, "limit is given twice"},
		{"GET", "/n/take" + ok + "&windows=1m", "", 400, `there is no parameter "windows": there are limit, window`},
		{"POST", "/n/take" + ok, `{"units": 1}`, 400, `there is no parameter "units"`},
		{"GET", "/n/take" + ok + "&denied=200", "", 400, `denied must be 429 or 403, not "200"`},
		{"GET", "/n/take" + ok + "&policy=", "", 400, "policy must be"},
		{"GET", "/n/take" + ok + `&policy=a%22b`, "", 400, "policy must be"},
		{"GET", "/n/take" + ok + `&policy=` + long[:65], "", 400, "policy must be"},
		{"GET", "/n/take" + ok + "&by=", "", 400, "by must be the name of a header field"},
		{"GET", "/n/take" + ok + "&by=a%0d%0ab", "", 400, "by must be"},
		{"GET", "/n/take" + ok + "&x=%zz", "", 400, "percent-encoded"},
		{"GET", "/n/take" + ok + ";cost=0", "", 400, "percent-encoded"},
		{"GET", "/take" + ok, "", 400, "the name of the rate is empty"},
		{"GET", "//take" + ok, "", 400, "the name of the rate is empty"},
		{"GET", "/%20%09/take" + ok, "", 400, "the name of the rate is empty"},
		{"GET", "/a%0Ab/take" + ok, "", 400, "a name has no line breaks"},
		{"GET", "/" + long + "/take" + ok, "", 400, "the name has 5000 bytes, and may have 4083 here (--max-line)"},
		{"POST", "/n/take", "limit=5&window=1m", 400, `the body is no JSON object such as {"limit": 100, "window": "1m", "cost": 1}`},
		{"POST", "/n/take", `[]`, 400, "the body is no JSON"},
		{"POST", "/n/take", `{"limit": 5, "window": "1m"`, 400, "the body is no JSON"},
		{"POST", "/n/take", `{"limit": 5, "window": "1m"} {}`, 400, "the body is no JSON"},
		{"POST", "/n/take", `{"limit": 5, "window": "1m",}`, 400, "the body is no JSON"},
		{"POST", "/n/take", `{"limit": "5", "window": "1m"}`, 400, "limit must be a number"},
		{"POST", "/n/take", `{"limit": 5, "window": 60}`, 400, "window must be a string"},
		{"POST", "/n/take", `{"limit": null, "window": "1m"}`, 400, "limit must be a number or a string"},
		{"POST", "/n/take", `{"limit": {"limit": 5}, "window": "1m"}`, 400, "limit must be a number or a string"},
		{"POST", "/n/take" + ok, strings.Repeat(" ", 4097), 413, "the body may have 4096 bytes"},
		{"GET", "", "", 404, "there is nothing at this path"},
		{"GET", "/n", "", 404, "there is nothing"},
		{"GET", "/n/take/" + ok, "", 404, "there is nothing"},
		{"PUT", "/n/take" + ok, "", 405, "with POST or GET, not with PUT"},
	} {
		a := c.do(q.method, q.path, q.body)
		a.refused(t, fmt.Sprintf("%s %.60s %.60s", q.method, q.path, q.body), q.status, q.text)
		if allow := a.header.Get("Allow"); (allow == "GET, POST") != (q.status == 405) {
			t.Errorf("Allow: %q", allow)
		}
	}
	if n := metric(t, s.Server, "lockd_rate_total"); n != 0 {
		t.Errorf("%d were decided", n)
	}
	if a := c.do("POST", "/n/take"+ok, strings.Repeat(" ", 4096)); a.status != 200 {
		t.Errorf("a body of 4096 bytes: %d %s", a.status, a.body)
	}
	for code, want := range map[string]int{"200": 1, "404": 3, "405": 1, "413": 1, "429": 0} {
		if got := metric(t, s.Server, "lockd_http_requests_total", "code="+code); got != want {
			t.Errorf("%d answers with %s, not %d", got, code, want)
		}
	}
}

// A rate has the name that it has in the line protocol, whatever bytes that is made of.
func TestHTTPRateNames(t *testing.T) {
	t.Parallel()
	s, c := startRates(t, server.Options{MaxLine: 64})
	line := s.dial(t, "tcp")
	for _, n := range []struct{ path, name string }{
		{"/plain/take", "plain"},
		{"/a%2Fb/take", "a/b"},
		{"/a/c/take", "a/c"},
		{"/take/take", "take"},
		{"/../../x/take", "../../x"},
		{"/./take", "."},
		{"//a//b//take", "/a//b/"},
		{"/%25%3F%23%26/take", "%?#&"},
		{"/%00%ff%7f/take", "\x00\xff\x7f"},
		{"/%C3%A4/take", "ä"},
		{"/a+b/take", "a+b"},
		{"/%20x%09%20y%20/take", "x y"},
		{"/take?name=q+1%2B%2f%26", "q 1+/&"},
		{"/x/take?by=X-Forwarded-For", "x192.0.2.1, 10.0.0.1"},
		{"/take?by=x-api-key", "k /&?limit=9"},
		{"/anonymous/take?by=X-Nobody", "anonymous"},
	} {
		c.to.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		a := c.get(n.path, "X-Forwarded-For: 192.0.2.1, 10.0.0.1", "X-Api-Key: k /&?limit=9")
		if a.status != 200 || a.Remaining != 99 {
			t.Errorf("%s: %d %s", n.path, a.status, a.body)
			continue
		}
		line.ask("ri 100 86400000 "+n.name, "99 Rate Open: "+n.name)
	}
	a := c.get("/x/take?by=X-Two", "X-Two: a", "X-Two: b")
	a.refused(t, "two fields", 400, "the header has 2 fields X-Two")

	// As long as the request `rl` may be, and a byte more.
	most := 64 - len("rl 100 86400000 1 ")
	name := strings.Repeat("n", most)
	if a := c.get("/" + name + "/take"); a.status != 200 {
		t.Errorf("a name of %d bytes: %d %s", most, a.status, a.body)
	}
	line.ask("rl 100 86400000 1 "+name, "99 Rate Allowed: "+name)
	c.get("/"+name+"n/take").refused(t, "a byte more", 400, fmt.Sprintf("the name has %d bytes, and may have %d here (--max-line)", most+1, most))
}

// Rates are bounded as they are in the line protocol, and who is refused at a bound is not
// told that the rate is over.
func TestHTTPRateBounds(t *testing.T) {
	t.Parallel()
	for _, b := range []struct {
		opts   server.Options
		text   string
		reason string
	}{
		{server.Options{MaxLocks: 1, MaxShare: []string{"off"}}, "--max-locks", "too_many_locks"},
		{server.Options{MaxShare: []string{"rates=1"}}, "--max-share rates=", "share_of_rates"},
		{server.Options{MaxShare: []string{"locks=1"}}, "--max-share locks=", "share_of_locks"},
	} {
		s, c := startRates(t, b.opts)
		if a := c.get("/first/take"); a.status != 200 {
			t.Fatalf("%s: %d %s", b.text, a.status, a.body)
		}
		c.get("/second/take").refused(t, b.text, 503, b.text)
		c.get("/second/take?denied=403").refused(t, b.text, 503, b.text)
		if a := c.get("/first/take"); a.status != 200 || a.Remaining != 98 {
			t.Errorf("%s: the first again: %d %s", b.text, a.status, a.body)
		}
		if a := c.get("/second/take?cost=0"); a.status != 200 {
			t.Errorf("%s: a question: %d %s", b.text, a.status, a.body)
		}
		line := s.dial(t, "tcp")
		line.send("losses 10 second\n")
		if got := line.line(); !strings.Contains(got, "refused") || !strings.Contains(got, "second") || !strings.Contains(got, b.reason) {
			t.Errorf("%s: the ledger has %q", b.reason, got)
		}
		if n := metric(t, s.Server, "lockd_rejected_total", "reason="+b.reason); n != 2 {
			t.Errorf("%s: %d counted", b.reason, n)
		}
	}
}

// What one client has too much of is not another one's, and rates count for who made them
// when its connection is gone.
func TestHTTPRateShares(t *testing.T) {
	t.Parallel()
	path := authFile(t, "a lock token:one", "b lock token:two")
	s, c := startRates(t, server.Options{AuthFile: path, ShareBy: "token", MaxShare: []string{"rates=1"}})
	one, two := "Authorization: Bearer one", "authorization: bearer  two"
	for _, as := range []string{one, two} {
		if a := c.get("/"+url.PathEscape(as)+"/take", as); a.status != 200 {
			t.Errorf("%s: %d %s", as, a.status, a.body)
		}
		c.get("/another/take", as).refused(t, as, 503, "--max-share rates=")
	}
	c.to.CloseIdleConnections()
	eventually(t, "the end of the connection", func() bool {
		return metric(t, s.Server, "lockd_connections", "transport=http") == 0
	})
	again := s.caller(t)
	again.get("/another/take", one).refused(t, "over another connection", 503, "--max-share rates=")
	line := s.dial(t, "tcp")
	line.ask("auth two", "1 ok")
	line.ask("rl 1 1000 1 more", "0 Too Many Locks: more")
}

// A server is full when its memory is.
func TestHTTPRateMemory(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, smallMemory)
	fillMemory(t, c)
}

var smallMemory = server.Options{MaxMemory: 32 << 20, MaxLine: 20 << 10, MaxShare: []string{"off"}}

// fillMemory makes rates with long names until there is no memory for one more.
func fillMemory(t *testing.T, c *rateCaller) {
	t.Helper()
	name := strings.Repeat("x", 16<<10)
	for i := range 10_000 {
		if a := c.get(fmt.Sprintf("/%d%s/take", i, name)); a.status != 200 {
			a.refused(t, "full", 503, "--max-memory")
			return
		}
	}
	t.Fatal("there is no end of memory")
}

// Who has to show a token is told so, and nobody is told by a status that means no to a
// proxy.
func TestHTTPRateAuth(t *testing.T) {
	t.Parallel()
	path := authFile(t, "nginx lock:web/ token:n", "ops admin token:o", "prom read token:p")
	for _, on := range [][]string{nil, {"http"}, {"tcp"}, {"none"}} {
		asks := on == nil || on[0] == "http"
		s, c := startRates(t, server.Options{AuthFile: path, AuthOn: on})
		for _, a := range s.Addrs() {
			if a.Transport == "http" && a.Asks != asks {
				t.Errorf("%v: Addrs says %v", on, a.Asks)
			}
		}
		unasked := 200
		if asks {
			unasked = 401
		}
		for _, q := range []struct {
			token, path string
			status      int
			text        string
		}{
			{"", "/web/x/take", unasked, "this takes a token of role lock or admin"},
			{"Basic n", "/web/x/take", unasked, "this takes a token"},
			{"Bearer x", "/web/x/take", 401, "wrong token"},
			{"Bearer p", "/web/x/take", 403, "this token may not take units of this rate"},
			{"Bearer n", "/web/x/take", 200, ""},
			{"Bearer n", "/other/take", 403, "this token may not"},
			{"Bearer n", "/we/take", 403, "this token may not"},
			{"Bearer n", "/other/take?cost=0", 403, "this token may not"},
			{"Bearer o", "/other/take", 200, ""},
		} {
			for _, denied := range []bool{false, true} {
				path, want := q.path, q.status
				if denied {
					path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "denied=403"
					if want == 401 || want == 403 {
						want = 500
					}
				}
				a := c.get(path, "Authorization: "+q.token)
				if a.status != want || a.status != 200 && !strings.Contains(a.Error, q.text) {
					t.Errorf("%v: %q for %s: %d %s, not %d", on, q.token, path, a.status, a.body, want)
				}
				challenge := a.header.Get("WWW-Authenticate")
				if strings.HasPrefix(challenge, "Bearer ") != (q.status == 401) || strings.Contains(challenge, "invalid_token") != (q.text == "wrong token") {
					t.Errorf("%v: %q for %s: WWW-Authenticate: %q", on, q.token, path, challenge)
				}
				if (a.status != 200 && q.status == 401) != a.last {
					t.Errorf("%v: %q for %s: ends the connection: %v", on, q.token, path, a.last)
				}
			}
		}
		refused := map[string]int{"auth_failed": 2, "not_allowed": 8, "not_authenticated": 0}
		if asks {
			refused["not_authenticated"] = 4
		}
		for reason, want := range refused {
			if got := metric(t, s.Server, "lockd_rejected_total", "reason="+reason); got != want {
				t.Errorf("%v: %d %s, not %d", on, got, reason, want)
			}
		}
		// What changes in the file counts from the next request on.
		if on == nil {
			writeAuth(t, path, "other lock token:z")
			must(t, s.Reload())
			c.get("/web/x/take", "Authorization: Bearer n").refused(t, "a token that is no more", 401, "wrong token")
			writeAuth(t, path, "nginx lock:web/ token:n", "ops admin token:o", "prom read token:p")
		}
	}
}

// Without a file whatever token proxies pass on of their clients' is nobody's.
func TestHTTPRateNoAuth(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{})
	if a := c.get("/n/take", "Authorization: Bearer somebody's"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A page in a browser whose name was made to point here is refused.
func TestHTTPRateHosts(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{AllowedHosts: []string{"lockd.internal"}})
	for host, want := range map[string]int{"localhost": 200, "127.0.0.1:1": 200, "[::1]:1": 200, "lockd.internal:9994": 200, "evil.example": 403, "lockd": 403} {
		a := c.get("/n/take", "Host: "+host)
		if a.status != want || want == 403 && !strings.Contains(a.Error, "--allowed-host") {
			t.Errorf("%s: %d %s", host, a.status, a.body)
		}
		if want == 403 {
			c.get("/n/take?denied=403", "Host: "+host).refused(t, host, 500, "--allowed-host")
		}
	}
}

// Those who ask are proxies: they send no PROXY headers, wherever they are.
func TestHTTPRatesBehindNoProxy(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{ProxyProtocol: []string{"127.0.0.0/8"}})
	if a := c.get("/n/take"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// While the server drains, nothing new is taken, and who asks is told to come back; at the
// end nobody is left.
func TestHTTPRatesWhileDraining(t *testing.T) {
	t.Parallel()
	s, c := startRates(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g held", "1 Lock Get Success: held")
	if a := c.get("/n/take"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	ended := make(chan error)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the drain", func() bool {
		holder.send("rl 1 1000 1 n\n")
		return strings.HasPrefix(holder.line(), "0 Shutting Down")
	})
	for _, path := range []string{"/n/take", "/n/take?denied=403", "/another/take"} {
		a := c.get(path)
		a.refused(t, path, 503, "the server is shutting down")
		if !a.last {
			t.Errorf("%s: the connection is kept", path)
		}
	}
	if a := c.get("/n/take?cost=0"); a.status != 200 || a.Remaining != 99 {
		t.Errorf("a question: %d %s", a.status, a.body)
	}
	holder.ask("r held", "1 Lock Release Success: held")
	must(t, <-ended)
	if r, err := c.to.Get(c.url + "/n/take?limit=1&window=1m"); err == nil {
		r.Body.Close()
		t.Error("it is still there")
	}
	// net/http notices by itself that it has closed a connection.
	eventually(t, "the end of the connections", func() bool { return metric(t, s.Server, "lockd_connections") == 0 })
}

// Connections over HTTP count among all; one too many is told so, and none that was there
// notices.
func TestHTTPRateConnections(t *testing.T) {
	t.Parallel()
	s, _ := startRates(t, server.Options{MaxConnections: 3})
	holder := s.dial(t, "tcp")
	holder.ask("g held", "1 Lock Get Success: held")
	first, second := s.caller(t), s.caller(t)
	for _, c := range []*rateCaller{first, second} {
		if a := c.get("/n/take"); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	third, err := net.Dial("tcp", first.addr)
	must(t, err)
	defer third.Close()
	third.SetDeadline(time.Now().Add(giveUp))
	io.WriteString(third, "GET /api/v1/rates/n/take?limit=1&window=1m HTTP/1.1\r\nHost: localhost\r\n\r\n")
	answer, err := io.ReadAll(third)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 503 ") || !strings.Contains(string(answer), "Retry-After: 1\r\n") ||
		!strings.HasSuffix(string(answer), "\r\n\r\n"+`{"error":"too many connections"}`+"\n") {
		t.Errorf("the third: %q, %v", answer, err)
	}
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_connections"); n != 1 {
		t.Errorf("%d counted", n)
	}
	if a := first.get("/n/take"); a.status != 200 || a.Remaining != 97 {
		t.Errorf("the first: %d %s", a.status, a.body)
	}
	holder.ask("r held", "1 Lock Release Success: held")
	second.to.CloseIdleConnections()
	eventually(t, "a place", func() bool { return metric(t, s.Server, "lockd_connections", "transport=http") == 1 })
	if a := s.caller(t).get("/n/take"); a.status != 200 {
		t.Errorf("the next: %d %s", a.status, a.body)
	}
}

// Who connects and asks for nothing has no place for long where others come.
func TestHTTPRateStrangers(t *testing.T) {
	t.Parallel()
	s, c := startRates(t, server.Options{MaxConnections: 2})
	for range 2 {
		stranger, err := net.Dial("tcp", c.addr)
		must(t, err)
		defer stranger.Close()
	}
	eventually(t, "a place", func() bool {
		r, err := c.to.Get(c.url + "/n/take?limit=100&window=24h")
		if err != nil {
			t.Fatal(err) // however full it is, it answers
		}
		defer r.Body.Close()
		io.Copy(io.Discard, r.Body)
		return r.StatusCode == 200
	})
	if n := metric(t, s.Server, "lockd_connections_accepted_total", "transport=http"); n < 3 {
		t.Errorf("%d accepted", n)
	}
}

// What does not come in time, or is too much, ends the connection.
func TestHTTPRateSlowAndLarge(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{})
	const to = "/api/v1/rates/n/take?limit=5&window=1m"
	var wg sync.WaitGroup
	for what, q := range map[string]struct {
		send   string
		status string
	}{
		"a header that does not end":       {"POST " + to + " HTTP/1.1\r\nHost: localhost\r\n", ""},
		"nothing":                          {"", ""},
		"a body that does not come":        {"POST " + to + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", "408"},
		"a body that ends too early":       {"POST " + to + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "400"},
		"a body of GET that does not come": {"GET " + to + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", "200"},
		"a large header":                   {"GET " + to + " HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 50<<10) + "\r\n\r\n", "431"},
		"lines":                            {"rl 5 1000 1 n\n", "400"},
		"no host":                          {"GET " + to + " HTTP/1.1\r\n\r\n", "400"},
		"an old one":                       {"GET " + to + " HTTP/1.0\r\n\r\n", "200"},
		"options":                          {"OPTIONS * HTTP/1.1\r\nHost: evil.example\r\n\r\n", "403"},
	} {
		conn, err := net.Dial("tcp", c.addr)
		must(t, err)
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(giveUp))
		wg.Go(func() {
			io.WriteString(conn, q.send)
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if q.status == "" && line != "" || q.status != "" && !strings.Contains(line, " "+q.status+" ") {
				t.Errorf("%s: %q, not %s", what, line, q.status)
			}
			if rest, err := io.ReadAll(conn); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%s: it does not end: %q, %v", what, rest, err)
			}
		})
	}
	wg.Wait()
}

// Requests that never end take no more memory than there is, and no lock from anybody.
func TestHTTPRateHeaderMemory(t *testing.T) {
	t.Parallel()
	s, c := startRates(t, smallMemory)
	if a := c.get("/n/take"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	fillMemory(t, c) // what is left is for some connections
	c.to.CloseIdleConnections()
	eventually(t, "the end of the connection", func() bool { return metric(t, s.Server, "lockd_connections", "transport=http") == 0 })
	before := metric(t, s.Server, "lockd_memory_bytes")
	header := "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 30<<10)
	eventually(t, "the end of memory", func() bool {
		conn, err := net.Dial("tcp", c.addr)
		must(t, err)
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(giveUp))
		io.WriteString(conn, header)
		return metric(t, s.Server, "lockd_rejected_total", "reason=connection_memory") > 0
	})
	limit := metric(t, s.Server, "lockd_memory_limit_bytes")
	if used := metric(t, s.Server, "lockd_memory_bytes"); used > limit+limit/8+1<<20 {
		t.Errorf("%d bytes of %d", used, limit)
	}
	eventually(t, "what it was before", func() bool { return metric(t, s.Server, "lockd_connections", "transport=http") == 0 })
	if a := c.get("/n/take"); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	c.to.CloseIdleConnections()
	eventually(t, "the end of the connection", func() bool { return metric(t, s.Server, "lockd_connections", "transport=http") == 0 })
	if after := metric(t, s.Server, "lockd_memory_bytes"); after != before {
		t.Errorf("%d bytes, and %d before", after, before)
	}
}

// The header that proxies pass on of their clients' has room.
func TestHTTPRateHeaderRoom(t *testing.T) {
	t.Parallel()
	_, c := startRates(t, server.Options{})
	if a := c.get("/n/take", "Cookie: "+strings.Repeat("c", 32<<10)); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Many ask at a time, and exactly the limit gets through.
func TestHTTPRateExact(t *testing.T) {
	t.Parallel()
	s, _ := startRates(t, server.Options{})
	const limit, callers, each = 500, 8, 200
	allowed := make(chan int, callers)
	began := time.Now()
	for range callers {
		c := s.caller(t)
		go func() {
			n := 0
			for range each {
				if a := c.do("GET", "/n/take?limit=500&window=24h", ""); a.status == 200 {
					n++
				} else if a.status != 429 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
			allowed <- n
		}()
	}
	sum := 0
	for range callers {
		sum += <-allowed
	}
	if back := int(time.Since(began) / (24 * time.Hour / limit)); sum < limit || sum > limit+back {
		t.Errorf("%d of %d", sum, limit)
	}
}

// Sockets that were opened by others serve it, too.
func TestHTTPRatesInherited(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	s := listen(t, server.Options{HTTP: []string{"systemd:rates"}, Inherited: map[string][]net.Listener{"rates": {l}}})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get("http://" + s.Addrs()[0].String() + "/api/v1/rates/n/take?limit=1&window=1s")
	must(t, err)
	if a := read(t, res); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if _, err := server.New(server.Options{HTTP: []string{"nowhere:0:0"}}); err == nil || !strings.Contains(err.Error(), `http: "nowhere:0:0": want [HOST:]PORT`) {
		t.Errorf("a wrong address: %v", err)
	}
}
