// Package openapi checks that what a running server answers is what its OpenAPI
// document says, no more and no less. It is a module of its own, since nobody else
// needs its validator.
package openapi

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/pkg/server"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// patience is how long a test waits for what should come at once.
const patience = 60 * time.Second

// A tester asks a server, and holds its replies against the document.
type tester struct {
	*testing.T
	base      string
	validator validator.Validator
	seen      map[string]bool // PATH CODE
}

// serve starts a server with an admin address, and returns its other addresses.
func serve(t *testing.T, opts server.Options) (_ *tester, tcp, unix string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "lockd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	opts.TCP, opts.Unix, opts.Admin = []string{"127.0.0.1:0"}, []string{filepath.Join(dir, "s")}, "127.0.0.1:0"
	s, err := server.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	})
	addrs := s.Addrs()
	return &tester{T: t, base: "http://" + addrs[2].String(), seen: make(map[string]bool)}, addrs[0].String(), addrs[1].String()
}

// document gets the document from the server.
func (t *tester) document(token string) map[string]any {
	t.Helper()
	resp, body := t.do("GET", "/api/v1/openapi.json", token, "")
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// use checks the document, and has replies held against it from now on: strictly, as
// if no field might come that it does not name.
func (t *tester) use(doc map[string]any) {
	t.Helper()
	closeObjects(doc["components"].(map[string]any)["schemas"])
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := libopenapi.NewDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(parsed)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Error(e)
		}
		t.FailNow()
	}
	t.validator = v
}

// closeObjects has all schemas of objects allow only what they name.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["properties"].(map[string]any); ok && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, one := range v {
			closeObjects(one)
		}
	case []any:
		for _, one := range v {
			closeObjects(one)
		}
	}
}

// do makes a request.
func (t *tester) do(method, path, token, body string) (*http.Response, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, t.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := (&http.Client{Timeout: patience}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

// expect makes a request and checks the reply, as one of a path of the document.
func (t *tester) expect(code int, method, path, of, token, body string) map[string]any {
	t.Helper()
	resp, got := t.do(method, path, token, body)
	if resp.StatusCode != code {
		t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, code, got)
	}
	t.valid(method, of, resp, got)
	t.seen[fmt.Sprint(of, " ", code)] = true
	var value map[string]any
	if err := json.Unmarshal(got, &value); err != nil {
		t.Fatalf("%s %s: %v in %s", method, path, err, got)
	}
	return value
}

// valid checks a reply. The request that it is of may be another one of the same
// path, since not all names that there are can stand in the validator's.
func (t *tester) valid(method, of string, resp *http.Response, body []byte) {
	t.Helper()
	of = strings.NewReplacer("{name}", "x", "{address}", "y").Replace(of)
	r, _ := http.NewRequest(method, t.base+of, nil)
	copied := *resp
	copied.Body = io.NopCloser(strings.NewReader(string(body)))
	if ok, errs := t.validator.ValidateHttpResponse(r, &copied); !ok {
		for _, e := range errs {
			t.Errorf("%s %s: %s: %s", method, of, e.Message, e.Reason)
			for _, s := range e.SchemaValidationErrors {
				t.Errorf("  %s at %s", s.Reason, s.FieldPath)
			}
		}
		t.Fatalf("in %s", body)
	}
}

// A client speaks the line protocol.
type client struct {
	t    *tester
	conn net.Conn
	in   *bufio.Scanner
}

func (t *tester) dial(network, addr string) *client {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewScanner(c)}
}

func (c *client) send(lines string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, lines); err != nil {
		c.t.Fatal(err)
	}
}

// ask sends a request and returns its reply.
func (c *client) ask(line string) string {
	c.t.Helper()
	c.send(line + "\n")
	if !c.in.Scan() {
		c.t.Fatalf("no reply to %q", line)
	}
	return c.in.Text()
}

const hostile = "<script>\xff\x00\u202e/../%2f?#\"'"

// All replies of a server with all kinds of things on it are as the document says, and
// those that are not 200 as well.
func TestReplies(t *testing.T) {
	s, tcp, unix := serve(t, server.Options{})
	s.use(s.document(""))
	a, b, u := s.dial("tcp", tcp), s.dial("tcp", tcp), s.dial("unix", unix)
	for _, line := range []string{"iam " + hostile, "g " + hostile, "sg shared", "g .."} {
		a.ask(line)
	}
	u.ask("sg shared")
	u.ask("rl 10 1000000 3 some rate")
	u.ask("rl 10 1000000 10 " + hostile)
	b.ask("hello 2")
	for i := range 5 {
		b.ask(fmt.Sprint(i, " iam session ", i, "\xfe"))
		b.send(fmt.Sprint(i, " gw 60000 ", hostile, "\n"))
	}
	b.ask("7 g x")
	// What was refused at a bound, or lost.
	lost := s.dial("tcp", tcp)
	lost.ask("g lost")
	b.send("8 gw 60000 lost\n")
	b.send("9 gw 1 lost\n")
	for s.expect(200, "GET", "/api/v1/locks/lost", "/api/v1/locks/{name}", "", "")["exclusive"].(map[string]any)["queue_length"] != 1.0 {
		time.Sleep(time.Millisecond)
	}
	lost.conn.Close()

	escaped := "/api/v1/locks/%3Cscript%3E%ff%00%e2%80%ae%2F..%2F%252f%3F%23%22'"
	lock := s.expect(200, "GET", escaped, "/api/v1/locks/{name}", "", "")
	if x := lock["exclusive"].(map[string]any); x["queue_length"] != 5.0 || x["holder"] == nil || lock["rate"] == nil || lock["name_b64"] == nil {
		t.Errorf("%v", lock)
	}
	for path, of := range map[string]string{
		"/api/v1/stats": "", "/api/v1/history": "",
		"/api/v1/locks": "", "/api/v1/locks?sort=queue": "/api/v1/locks", "/api/v1/locks?sort=oldest&kind=shared": "/api/v1/locks", "/api/v1/locks?sort=busiest": "/api/v1/locks",
		"/api/v1/locks?prefix=l&limit=1": "/api/v1/locks", "/api/v1/locks?holder=unix": "/api/v1/locks",
		"/api/v1/locks/shared": "/api/v1/locks/{name}", "/api/v1/locks/": "/api/v1/locks/{name}", "/api/v1/locks/?name=..": "/api/v1/locks/{name}", "/api/v1/locks/nobody": "/api/v1/locks/{name}",
		"/api/v1/clients": "", "/api/v1/clients?sort=none&limit=1": "/api/v1/clients", "/api/v1/clients?q=unix": "/api/v1/clients",
		"/api/v1/rates": "", "/api/v1/losses": "", "/api/v1/losses?name=lost&why=disconnect": "/api/v1/losses",
		"/api/v1/cluster": "", "/api/v1/openapi.json": "",
	} {
		if of == "" {
			of = path
		}
		s.expect(200, "GET", path, of, "", "")
	}
	addr := b.conn.LocalAddr().String()
	for _, one := range []string{addr, addr + "%237", "unix%3A1"} {
		c := s.expect(200, "GET", "/api/v1/clients/"+one, "/api/v1/clients/{address}", "", "")
		if (c["process"] == nil) != strings.HasPrefix(one, "127") {
			t.Errorf("%s: %v", one, c)
		}
	}
	s.events()

	for _, wrong := range []string{"sort=x", "limit=0", "limit=1001", "limit=x", "cursor=x", "sort=queue&prefix=x", "kind=x", "prefix=%zz"} {
		s.expect(400, "GET", "/api/v1/locks?"+wrong, "/api/v1/locks", "", "")
	}
	for _, list := range []string{"clients", "rates", "losses"} {
		s.expect(400, "GET", "/api/v1/"+list+"?limit=0", "/api/v1/"+list, "", "")
	}
	s.expect(404, "GET", "/api/v1/clients/nobody", "/api/v1/clients/{address}", "", "")
	kick := "/api/v1/clients/{address}/kick"
	s.expect(404, "POST", "/api/v1/clients/nobody/kick", kick, "", "{}")
	s.expect(400, "POST", "/api/v1/clients/"+addr+"/kick", kick, "", "{")
	s.expect(415, "POST", "/api/v1/clients/"+addr+"/kick", kick, "", "")
	if got := s.expect(200, "POST", "/api/v1/clients/"+addr+"/kick", kick, "", "{}"); got["freed"] != true {
		t.Errorf("%v", got)
	}
	s.expect(404, "POST", "/api/v1/clients/"+addr+"/kick", kick, "", "{}")
	s.expect(200, "GET", "/api/v1/losses", "/api/v1/losses", "", "")
	for path := range s.document("")["paths"].(map[string]any) {
		if !s.seen[path+" 200"] && path != "/api/v1/events" {
			t.Errorf("%s was never asked", path)
		}
	}
}

// events checks the first events of a stream, whose data the document describes beside
// its paths.
func (t *tester) events() {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, _ := http.NewRequestWithContext(ctx, "GET", t.base+"/api/v1/events", nil)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	event := ""
	for want := map[string]string{"hello": "/api/v1/stats", "sample": "/test/sample"}; len(want) > 0 && lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if of := want[event]; of == "/api/v1/stats" {
				reply := &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}}
				t.valid("GET", of, reply, []byte(data))
			} else if of != "" {
				var sample map[string]any
				if err := json.Unmarshal([]byte(data), &sample); err != nil || sample["at"] == nil {
					t.Errorf("%s: %v", data, err)
				}
				props := t.document("")["components"].(map[string]any)["schemas"].(map[string]any)["SampleEvent"].(map[string]any)["properties"].(map[string]any)
				if has, should := slices.Sorted(maps.Keys(sample)), slices.Sorted(maps.Keys(props)); !slices.Equal(has, should) {
					t.Errorf("%q, want %q", has, should)
				}
			}
			delete(want, event)
		}
	}
	if lines.Err() != nil {
		t.Fatal(lines.Err())
	}
}

// What is refused for want of a token, or of a role, is as the document says.
func TestRefusals(t *testing.T) {
	const token = "tok-00000000000000000000"
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, fmt.Appendf(nil, "looker read sha256:%x\n", sha256.Sum256([]byte(token))), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _, _ := serve(t, server.Options{AuthFile: file, DisableDump: true})
	doc := s.document("")
	s.use(doc)
	for path, item := range doc["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			method, asked := strings.ToUpper(method), strings.NewReplacer("{name}", "x", "{address}", "y").Replace(path)
			if path != "/api/v1/events" {
				s.expect(401, method, asked, path, "wrong", "")
			}
			if method == "POST" {
				s.expect(401, method, asked, path, "", "{}")
				s.expect(403, method, asked, path, token, "{}")
			} else if !slices.Contains([]string{"stats", "history", "events", "cluster", "openapi.json"}, strings.TrimPrefix(path, "/api/v1/")) {
				s.expect(403, method, asked, path, token, "")
			}
		}
	}
}

// TestCluster: a node tells of its cluster, and a proxy of its server, as the document says.
func TestCluster(t *testing.T) {
	conf, err := cluster.NewConf(cluster.DefaultW, cluster.DefaultG)
	if err != nil {
		t.Fatal(err)
	}
	keys := memstore.New(conf)
	member := func(name, addr string) server.Options {
		return server.Options{Cluster: &server.Cluster{
			Store: keys.Store(), Name: name, Addr: addr,
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", addr)
			},
		}}
	}
	s, tcp, _ := serve(t, member("one", "127.0.0.1:1")) // nobody reaches it there
	s.use(s.document(""))
	two, _, _ := serve(t, member("two", "127.0.0.1:2"))
	two.use(two.document(""))
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		reply := s.expect(200, "GET", "/api/v1/cluster", "/api/v1/cluster", "", "")
		if nodes := reply["nodes"].([]any); len(nodes) == 2 && reply["node"].(map[string]any)["registered"] == true && reply["upstream"] == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it tells %v", reply)
		}
	}
	served := s.expect(200, "GET", "/api/v1/locks/x", "/api/v1/locks/{name}", "", "")["served"].(map[string]any)
	if n := served["partition"].(float64); n < 0 || n > 1023 {
		t.Errorf("%v", served)
	}
	if part := s.expect(200, "GET", "/api/v1/stats", "/api/v1/stats", "", "")["part"]; part != "node" {
		t.Errorf("a node is %v", part)
	}
	proxy, _, _ := serve(t, server.Options{Upstream: &server.Upstream{Target: tcp, Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", tcp)
	}}})
	proxy.use(proxy.document(""))
	if up := proxy.expect(200, "GET", "/api/v1/cluster", "/api/v1/cluster", "", "")["upstream"]; up == nil {
		t.Error("a proxy tells nothing of its server")
	}
	if part := proxy.expect(200, "GET", "/api/v1/stats", "/api/v1/stats", "", "")["part"]; part != "proxy" {
		t.Errorf("a proxy is %v", part)
	}
}
