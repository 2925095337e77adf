package docs_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// TestConfigurations: what docs/rate-limiting.md shows of the proxies' configurations stands
// in those files, which are tried with the proxies.
func TestConfigurations(t *testing.T) {
	files := map[string]string{
		"nginx": "contrib/nginx/lockd.conf", "haproxy": "contrib/haproxy/haproxy.cfg",
		"caddy": "contrib/caddy/Caddyfile", "yaml": "contrib/traefik/lockd.yaml",
	}
	shown := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$").FindAllStringSubmatch(read(t, "docs/rate-limiting.md"), -1) {
		if file := files[m[1]]; file != "" {
			if shown[m[1]] = true; !strings.Contains(read(t, file), m[2]) {
				t.Errorf("docs/rate-limiting.md shows what %s does not have:\n%s", file, m[2])
			}
		}
	}
	for kind, file := range files {
		if !shown[kind] {
			t.Errorf("nothing of %s is shown", file)
		}
	}
}

// TestParameters compares the table with those that a server knows.
func TestParameters(t *testing.T) {
	s := newServerWith(t, server.Options{HTTP: []string{"127.0.0.1:0"}})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	res, err := http.Get("http://" + s.Addrs()[0].String() + "/api/v1/rates/take?unknown=")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(body), "there are ")
	code, document := make(map[string]bool), make(map[string]bool)
	for _, word := range regexp.MustCompile(`[a-z]+`).FindAllString(strings.ReplaceAll(list, " and ", " "), -1) {
		code[word] = true
	}
	for _, row := range table(t, part(t, "docs/rate-limiting.md", "parameters")) {
		document[quoted(row[0])[0]] = true
	}
	same(t, "parameters over HTTP", document, code)
}
