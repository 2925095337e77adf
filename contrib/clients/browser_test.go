package clients_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// startPage opens the example in a browser of its own. What it tells is the
// page's title.
func startPage(t *testing.T, s *service, way, name, n, _ string) *example {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a browser some seconds to start")
	}
	var browser string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			browser = found
			break
		}
	}
	if browser == "" {
		t.Skip("Chromium is not installed")
	}
	page, err := os.ReadFile("browser/example.html")
	must(t, err)
	text := strings.Replace(string(page), "Lockd.connect(server)", fmt.Sprintf("Lockd.connect(server, %q)", s.token), 1)
	text += `<script>
let told = document.title;
setInterval(() => {
  if (document.title != told) fetch("/title?is=" + encodeURIComponent(told = document.title));
}, 20);
</script>`
	loaded, lines := make(chan bool, 1), make(chan string, 100)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/example.html":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, text)
			select {
			case loaded <- true:
			default:
			}
		case "/lockd.js":
			http.ServeFile(w, r, "browser/lockd.js")
		case "/title":
			lines <- r.URL.Query().Get("is")
		}
	}))
	t.Cleanup(web.Close)

	profile, err := os.MkdirTemp("", "lockd-browser")
	must(t, err)
	query := url.Values{"server": {s.target}, "way": {way}, "name": {name}, "n": {n}}
	cmd := exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--remote-debugging-port=0", "--user-data-dir="+profile, web.URL+"/example.html?"+query.Encode())
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Skipf("the browser does not start: %v", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	stop := sync.OnceFunc(func() {
		cmd.Process.Kill()
		<-ended
		os.RemoveAll(profile) // not t.TempDir: the browser may still write there
	})
	t.Cleanup(stop)
	select {
	case <-loaded:
	case <-ended:
		t.Skip("the browser does not work here: it ended")
	case <-time.After(patience):
		t.Skip("the browser does not work here: it opened nothing")
	}
	return &example{lines, stop}
}
