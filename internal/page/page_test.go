package page

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest("GET", target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

// Each file comes with its type and the policy, whole or not at all, and nothing else
// is there.
func TestHandler(t *testing.T) {
	for target, mime := range map[string]string{
		"/": "text/html", "/ui/app.js": "text/javascript", "/ui/app.css": "text/css", "/ui/icon.svg": "image/svg+xml",
	} {
		if !Has(target) {
			t.Errorf("%s is no part of the page", target)
		}
		reply := get(t, target)
		h := reply.Header
		if reply.StatusCode != 200 || !strings.HasPrefix(h.Get("Content-Type"), mime) || h.Get("Content-Security-Policy") != Policy ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-cache" {
			t.Errorf("%s: %d, %v", target, reply.StatusCode, h)
		}
		again := get(t, target, "If-None-Match", h.Get("ETag"))
		if again.StatusCode != http.StatusNotModified || again.Header.Get("Content-Security-Policy") != Policy {
			t.Errorf("%s once more: %d, %v", target, again.StatusCode, again.Header)
		}
		if other := get(t, target, "If-None-Match", `"old"`); other.StatusCode != 200 {
			t.Errorf("%s, another than there was: %d", target, other.StatusCode)
		}
	}
	for _, target := range []string{"/ui/", "/ui", "/ui/index.html", "/index.html", "/ui/nothing.js", "/ui/%2e%2e/page.go", "/ui//app.js", "/UI/app.js"} {
		if reply := get(t, target); reply.StatusCode != http.StatusNotFound || Has(strings.ReplaceAll(target, "%2e", ".")) || reply.Header.Get("ETag") != "" {
			t.Errorf("%s: %d", target, reply.StatusCode)
		}
	}
}

// The policy allows what the page itself brings, and nothing that stands in its text.
func TestPolicy(t *testing.T) {
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"} {
		if !strings.Contains(Policy+";", want+";") {
			t.Errorf("the policy lacks %q", want)
		}
	}
	for _, bad := range []string{"unsafe", "*", "http", "data:"} {
		if strings.Contains(Policy, bad) {
			t.Errorf("the policy has %q", bad)
		}
	}
}

// All that the files ask for is among them, nothing is from elsewhere, and nothing
// makes markup of text.
func TestFiles(t *testing.T) {
	uses := regexp.MustCompile(`(?:from|import) "\./([^"]+)"|(?:src|href)="ui/([^"]+)"`)
	elsewhere := regexp.MustCompile(`(?i)(https?:)?//[a-z0-9-]+\.[a-z]`)
	parses := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|new Function|srcdoc|createContextualFragment|setHTML|javascript:`)
	used := map[string]bool{"index.html": true}
	entries, err := fs.ReadDir(files, "ui")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		content, err := files.ReadFile("ui/" + entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			used[m[1]+m[2]] = true
		}
		own := strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "")
		if found := elsewhere.FindString(own); found != "" {
			t.Errorf("%s has %q, of elsewhere", entry.Name(), found)
		}
		if found := parses.FindString(text); found != "" {
			t.Errorf("%s has %q: names may be markup", entry.Name(), found)
		}
		if types[path.Ext(entry.Name())] == "" {
			t.Errorf("%s: of no known type", entry.Name())
		}
		if strings.HasSuffix(entry.Name(), ".html") && regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script>`).MatchString(text) {
			t.Errorf("%s has style or script in its text, which the policy forbids", entry.Name())
		}
	}
	for _, entry := range entries {
		if !used[entry.Name()] {
			t.Errorf("%s is not used", entry.Name())
		}
		delete(used, entry.Name())
	}
	for name := range used {
		t.Errorf("%s is not there", name)
	}
}
