package clients_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A browser shows the examples that are pages, each in a frame of its own.
type browser struct {
	orders chan order
	stop   func()

	mu    sync.Mutex // guards what follows
	pages map[string]chan string
}

// An order has the browser open a page, or close it if there is no URL.
type order struct {
	ID  string `json:"id"`
	URL string `json:"url"`
}

// driver is the page around the frames.
const driver = `<!doctype html><body><script type="module">
for (;;) {
  const { id, url } = await (await fetch("/order")).json();
  if (!url) { document.getElementById(id).remove(); continue; }
  const frame = document.createElement("iframe");
  frame.id = id;
  frame.src = url;
  document.body.append(frame);
}
</script>`

// teller is added to the example: it tells the page's title.
const teller = `<script>
let told = document.title;
const page = new URLSearchParams(location.search).get("page");
setInterval(() => {
  if (document.title != told) fetch("/title?page=" + page + "&is=" + encodeURIComponent(told = document.title));
}, 20);
</script>`

// theBrowser is the one of all tests: it takes some seconds to start. Without
// one it returns why there is none.
var theBrowser = sync.OnceValues(func() (*browser, string) {
	var program string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		return nil, "Chromium is not installed"
	}
	example, err := os.ReadFile("browser/example.html")
	if err != nil {
		return nil, err.Error()
	}
	lockd, err := os.ReadFile("browser/lockd.js")
	if err != nil {
		return nil, err.Error()
	}
	// A browser that has just started on a busy machine takes longer to connect than
	// people should have to wait.
	const until = "#deadAfter = 5000;"
	if !strings.Contains(string(lockd), until) {
		panic("browser/lockd.js has no " + until)
	}
	patient := strings.Replace(string(lockd), until, "#deadAfter = 60000;", 1)
	b := &browser{orders: make(chan order), pages: make(map[string]chan string)}
	loaded := make(chan bool, 1)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch r.URL.Path {
		case "/":
			io.WriteString(w, driver)
		case "/order":
			select {
			case loaded <- true:
			default:
			}
			select {
			case o := <-b.orders:
				json.NewEncoder(w).Encode(o)
			case <-r.Context().Done():
			}
		case "/example.html":
			connect := fmt.Sprintf("Lockd.connect(server, %q)", query.Get("token"))
			io.WriteString(w, strings.Replace(string(example), "Lockd.connect(server)", connect, 1)+teller)
		case "/lockd.js":
			w.Header().Set("Content-Type", "text/javascript")
			io.WriteString(w, patient)
		case "/title":
			b.mu.Lock()
			defer b.mu.Unlock()
			if lines := b.pages[query.Get("page")]; lines != nil {
				lines <- query.Get("is")
			}
		}
	}))
	profile, err := os.MkdirTemp("", "lockd-browser")
	if err != nil {
		return nil, err.Error()
	}
	cmd := exec.Command(program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--remote-debugging-port=0", "--user-data-dir="+profile, web.URL+"/")
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		return nil, fmt.Sprint("the browser does not start: ", err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	b.stop = func() {
		cmd.Process.Kill()
		<-ended
		web.CloseClientConnections()
		web.Close()
		os.RemoveAll(profile)
	}
	select {
	case <-loaded:
		return b, ""
	case <-ended:
	case <-time.After(patience):
	}
	b.stop()
	return nil, "the browser does not work here: it opens nothing"
})

func TestMain(m *testing.M) {
	code := m.Run()
	if asked.Load() {
		if b, _ := theBrowser(); b != nil {
			b.stop()
		}
	}
	os.Exit(code)
}

// asked tells whether a test has asked for the browser.
var asked atomic.Bool

// startPage opens the example in the browser. What it tells is its title.
func startPage(t *testing.T, s *service, way, name, n, _ string) *example {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes a browser some seconds to start")
	}
	asked.Store(true)
	b, missing := theBrowser()
	if b == nil {
		t.Skip(missing)
	}
	lines := make(chan string, 100)
	b.mu.Lock()
	page := strconv.Itoa(len(b.pages) + 1)
	b.pages[page] = lines
	b.mu.Unlock()
	tell := func(o order) {
		select {
		case b.orders <- o:
		case <-time.After(patience):
			t.Error("the browser takes no orders any more")
		}
	}
	query := url.Values{"page": {page}, "token": {s.token}, "server": {s.target}, "way": {way}, "name": {name}, "n": {n}}
	tell(order{page, "/example.html?" + query.Encode()})
	stop := sync.OnceFunc(func() { tell(order{page, ""}) })
	t.Cleanup(stop)
	return &example{lines, stop}
}
