package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/session"
)

// nobody is a network without connections.
type nobody struct{}

func (nobody) Connections() int                               { return 0 }
func (nobody) CatchUp(func()) bool                            { return false }
func (nobody) Kick(session.Carrier, session.Kick)             {}
func (nobody) Authenticated(*session.Stream, *session.Access) {}
func (nobody) Gone([]session.Carrier) int                     { return -1 }
func (nobody) Want([]session.Carrier)                         {}
func (nobody) Detach(session.Carrier)                         {}
func (nobody) Outlives(session.Carrier)                       {}

func newAPI(t testing.TB) *API {
	h := session.NewHub(session.Config{Shards: 2, MaxLine: 4096, MaxOutput: 64 << 10, MaxSessions: 100}, nobody{})
	a := New(Config{Hub: h, Version: "0"})
	t.Cleanup(func() {
		a.Close()
		h.Close()
	})
	return a
}

// The document describes all that there is, and nothing else.
func TestDocument(t *testing.T) {
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID, Summary string
			Parameters           []struct{ Name, In string }
			Responses            map[string]any
		}
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(document, &doc); err != nil || doc.OpenAPI != "3.1.0" {
		t.Fatal(doc.OpenAPI, err)
	}
	described := 0
	for path, item := range doc.Paths {
		for method, operation := range item {
			described++
			if operation.OperationID == "" || operation.Summary == "" || len(operation.Responses) < 2 {
				t.Errorf("%s %s: %+v", method, path, operation)
			}
			asked := strings.NewReplacer("{name}", "x", "{address}", "y").Replace(path)
			if r, args, _ := find(strings.ToUpper(method), asked); r == nil || strings.Count(path, "{") != len(args) || Path+r.path != path {
				t.Errorf("%s %s is described, and there is no such thing", method, path)
			} else if r.names != (operation.Responses["403"] != nil) && r.names {
				t.Errorf("%s %s: it tells names, and cannot answer 403", method, path)
			}
		}
	}
	for _, r := range routes {
		if _, ok := doc.Paths[Path+r.path][strings.ToLower(r.method)]; !ok {
			t.Errorf("%s %s is not described", r.method, r.path)
		}
	}
	if described != len(routes) {
		t.Errorf("%d operations are described, and there are %d", described, len(routes))
	}
	var figures []string
	for name := range doc.Components.Schemas["Sample"].Properties {
		figures = append(figures, name)
	}
	if want := slices.Sorted(slices.Values(names[:])); !slices.Equal(slices.Sorted(slices.Values(figures)), want) {
		t.Errorf("figures are %q, want %q", figures, want)
	}
}

// Whatever bytes a name has, a reply is JSON, and tells the bytes.
func FuzzNames(f *testing.F) {
	for _, name := range []string{"", "a", "<script>", "\xff", "\x00", "\u2028", "caf\xc3", strings.Repeat("x\xfe", 2000), "\U0010ffff", "\xed\xa0\x80"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		body := newReply(party{Address: name, named: nameOf(name), Identity: identityOf(&session.Access{Name: name}), Transport: "tcp"}).body
		var got struct {
			Name, Identity string
			Base64         *string `json:"name_b64"`
			Identity64     *string `json:"identity_b64"`
		}
		if err := json.Unmarshal(body, &got); err != nil || !utf8.Valid(body) || strings.ContainsAny(string(body[:len(body)-1]), "<>&\n\u2028") {
			t.Fatalf("%q: %v in %q", name, err, body)
		}
		for _, is := range []struct {
			text string
			b64  *string
		}{{got.Name, got.Base64}, {got.Identity, got.Identity64}} {
			text := is.text
			if is.b64 != nil {
				decoded, err := base64.RawURLEncoding.DecodeString(*is.b64)
				if err != nil {
					t.Fatal(err)
				}
				text = string(decoded)
			}
			if text != name {
				t.Errorf("%q is told as %q", name, body)
			}
		}
	})
}

// Whatever is asked for, there is an answer, and it is JSON or nothing.
func FuzzRequests(f *testing.F) {
	for _, r := range routes {
		f.Add(r.method, "/api/v1/"+r.path, "limit=1&cursor=x&sort=queue")
	}
	f.Add("GET", "/api/v1/locks/%ff%2F", "name=%fe")
	f.Add("POST", "/api/v1/clients/%00/kick", "")
	a := newAPI(f)
	f.Fuzz(func(t *testing.T, method, path, query string) {
		r := httptest.NewRequest("GET", "http://localhost/", strings.NewReader("{}"))
		r.Method, r.URL.RawPath, r.URL.RawQuery = method, path, query
		var err error
		if r.URL, err = r.URL.Parse(path); err != nil || Follows(r) {
			t.Skip()
		}
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if body := w.Body.Bytes(); w.Code != http.StatusNotModified && !json.Valid(body) || w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s?%s: %d %q", method, path, query, w.Code, body)
		}
	})
}

// Of the samples the last minutes are kept, and a second that was missed is one of
// which nothing is known.
func TestHistory(t *testing.T) {
	var h history
	at := time.Unix(1000, 0)
	put := func(seconds float64) {
		at = at.Add(time.Duration(seconds * float64(time.Second)))
		var s sample
		s[requests] = float32(at.Unix())
		h.add(at, s, time.Second)
	}
	series := func() string { return string(h.appendSeries(nil, requests)) }
	if got := series(); got != "[]" {
		t.Errorf("at first %s", got)
	}
	put(0)
	put(1.02)
	put(0.97)
	put(3.1)
	if got := series(); got != "[1000,1001,1001,null,null,1005]" {
		t.Errorf("with a gap: %s", got)
	}
	for range kept + 10 {
		put(1)
	}
	if n := strings.Count(series(), ","); n != kept-1 || strings.Contains(series(), "null") {
		t.Errorf("%d of %d are kept: %.100s", n+1, kept, series())
	}
	put(100 * kept) // as after a night's sleep
	if got := series(); strings.Count(got, "null") != kept-1 || h.n != kept {
		t.Errorf("after a long gap: %.100s", got)
	}
	if text, err := json.Marshal(&h); err != nil || !json.Valid(text) {
		t.Error(err)
	}
}

// What was counted between two samples is told by the second, whatever those took.
func TestSince(t *testing.T) {
	var s sample
	s.since(values{"requests": 100, "cpu_us": 1000}, values{"requests": 300, "cpu_us": 2000, "waits": 3}, 2*time.Second)
	if s[requests] != 100 || s[waitsBegun] != 1.5 || s[cpuPerRequest] != 5 || s[cpuCores] != 0.0005 || s[grants] != 0 {
		t.Errorf("%v", s)
	}
	s.since(values{"requests": 100, "cpu_us": 1}, values{"requests": 90, "cpu_us": 2}, time.Second)
	if s[requests] != 0 || s[cpuPerRequest] == s[cpuPerRequest] {
		t.Errorf("a count that falls: %v", s)
	}
	if text, err := json.Marshal(s); err != nil || !strings.Contains(string(text), `"cpu_us":null`) || strings.Contains(string(text), "e+") {
		t.Errorf("%s, %v", text, err)
	}
}

// More searches than may be made at a time have to wait, and then to come again.
func TestSearchesAreBounded(t *testing.T) {
	a := newAPI(t)
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/"+path, nil))
		return w
	}
	for range mostSearches {
		a.searches <- struct{}{}
	}
	if w := get("locks?prefix=x"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("one more: %d %s", w.Code, w.Body)
	}
	if w := get("locks?sort=queue"); w.Code != http.StatusOK {
		t.Errorf("what is no search: %d %s", w.Code, w.Body)
	}
	done := make(chan int)
	go func() { done <- get("rates").Code }()
	a.searches.leave()
	if code := <-done; code != http.StatusOK {
		t.Errorf("one that has waited: %d", code)
	}
	for range mostSearches - 1 {
		a.searches.leave()
	}
}

// What is made of a census is made once, and no more than so much of it is kept.
func TestMade(t *testing.T) {
	var m made
	first, second := new(session.Census), new(session.Census)
	n := 0
	ask := func(c *session.Census, key string) {
		m.get(c, key, func() any { n++; return n })
	}
	for range 3 {
		ask(first, "a")
		ask(first, "b")
	}
	if n != 2 {
		t.Errorf("two replies were made %d times", n)
	}
	if ask(second, "a"); n != 3 {
		t.Error("another census has no reply of its own")
	}
	// However large they are, and however many.
	long := strings.Repeat("x", mostMade/10)
	for i := range 30 {
		m.get(second, fmt.Sprint("long ", i), func() any { return long })
	}
	for i := range 30 {
		ask(second, fmt.Sprint("short ", i)+long)
	}
	kept := 0
	for key, r := range m.all {
		kept += len(key) + len(r.body)
	}
	if kept > mostMade || kept < mostMade/2 || kept != m.bytes {
		t.Errorf("%d bytes of replies are kept, counted as %d", kept, m.bytes)
	}
	if ask(first, "a"); m.bytes > 100 {
		t.Error("those of the census before count")
	}
}

// A cursor is good for the list that it is of, on the server that has made it.
func TestCursors(t *testing.T) {
	a, b := newAPI(t), newAPI(t)
	b.started = a.started.Add(1)
	text := a.writeCursor(cursorOfSearch, 1, 1<<63, 0)
	read := func(a *API, of cursor, n int, text string) ([]uint64, string) {
		c := &call{r: httptest.NewRequest("GET", "/?cursor="+text, nil)}
		return a.cursor(c, of, n), c.wrong
	}
	if got, wrong := read(a, cursorOfSearch, 3, text); wrong != "" || !slices.Equal(got, []uint64{1, 1 << 63, 0}) {
		t.Errorf("%v, %s", got, wrong)
	}
	if got, wrong := read(a, cursorOfSearch, 3, ""); wrong != "" || !slices.Equal(got, []uint64{0, 0, 0}) {
		t.Errorf("the beginning: %v, %s", got, wrong)
	}
	for what, c := range map[string]struct {
		api  *API
		of   cursor
		n    int
		text string
	}{
		"another list": {a, cursorOfTop, 3, text}, "another server": {b, cursorOfSearch, 3, text}, "too long": {a, cursorOfSearch, 2, text},
		"too short": {a, cursorOfSearch, 4, text}, "no base64": {a, cursorOfSearch, 3, "!"}, "cut": {a, cursorOfSearch, 3, text[:len(text)-2]},
	} {
		if got, wrong := read(c.api, c.of, c.n, c.text); wrong == "" || slices.Max(got) != 0 {
			t.Errorf("%s: %v, %q", what, got, wrong)
		}
	}
}
