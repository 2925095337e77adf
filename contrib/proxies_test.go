//go:build unix

package contrib_test

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A proxy is a program in front of a backend, with the configuration that is in this
// folder. Its first lines of those that are changed here are where things are.
type proxy struct {
	name string
	// begin writes the configuration and returns the command, for it to listen at an
	// address, or on the descriptor 3.
	begin     func(t *testing.T, dir, addr string, change func(file string, more ...string) string) *exec.Cmd
	inherits  bool     // it takes a socket that is open
	all       []string // what the rate for all is in the configuration, and its form, by limit and window
	login     []string // the same of that for logins
	byKey     []string // what is to be replaced so that logins are by a key in the header
	ratelimit bool     // the client of a request that was passed on gets the fields, too
	closed    int      // the status of what is closed
}

var proxies = []*proxy{
	{
		name: "nginx",
		begin: func(t *testing.T, dir, addr string, change func(string, ...string) string) *exec.Cmd {
			conf := change("nginx/lockd.conf", "listen 8080", "listen "+addr)
			me, err := user.Current()
			if err != nil {
				t.Skip("no user to run nginx as: ", err)
			}
			as := "" // whose only root can be another's
			if me.Uid == "0" {
				as = "user " + me.Username + ";"
			}
			main := fmt.Sprintf(`daemon off; %[2]s pid %[1]s/pid; error_log stderr; worker_processes 2; events {}
				http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
				uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; include %[1]s/lockd.conf; }`, dir, as)
			write(t, filepath.Join(dir, "lockd.conf"), conf)
			write(t, filepath.Join(dir, "nginx.conf"), main)
			return exec.Command("nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr")
		},
		all:       []string{"limit=100&window=1m", "limit=%d&window=%s"},
		login:     []string{"limit=5&window=1m", "limit=%d&window=%s"},
		byKey:     []string{"name=login:$remote_addr", "name=login:&by=X-Api-Key", "proxy_set_header Host localhost;", "proxy_set_header Host localhost; proxy_set_header X-Api-Key $http_x_api_key;"},
		ratelimit: true,
		closed:    http.StatusServiceUnavailable,
	},
	{
		name: "haproxy",
		begin: func(t *testing.T, dir, _ string, change func(string, ...string) string) *exec.Cmd {
			// Names of sockets without files are the machine's.
			const abns = "abns@lockd"
			mine := fmt.Sprintf("%s-%d-%d", abns, os.Getpid(), numbers.Add(1))
			write(t, filepath.Join(dir, "lockd.lua"), strings.Replace(read(t, "haproxy/lockd.lua"), `"`+abns+`"`, `"`+mine+`"`, 1))
			write(t, filepath.Join(dir, "haproxy.cfg"), change("haproxy/haproxy.cfg", "bind "+abns, "bind "+mine, "bind :8080", "bind fd@3",
				"/etc/haproxy", dir, "log /dev/log local0", "log stderr format raw local0"))
			return exec.Command("haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
		},
		inherits:  true,
		all:       []string{"lockd_take all 100 1m", "lockd_take all %d %s"},
		login:     []string{"lockd_take login 5 1m", "lockd_take login %d %s"},
		byKey:     []string{"set-var(txn.lockd_key) src", "set-var(txn.lockd_key) req.fhdr(X-Api-Key)"},
		ratelimit: true,
		closed:    http.StatusServiceUnavailable,
	},
	{
		name: "caddy",
		begin: func(t *testing.T, dir, addr string, change func(string, ...string) string) *exec.Cmd {
			yes := freeAddr(t)
			conf := change("caddy/Caddyfile", "\n:8080 {", "\nhttp://"+addr+" {", "127.0.0.1:9994 127.0.0.1:9993", "127.0.0.1:9994 "+yes,
				"http://127.0.0.1:9993, http://localhost:9993", "http://"+yes+", http://localhost:"+yes[strings.LastIndex(yes, ":")+1:])
			write(t, filepath.Join(dir, "Caddyfile"), "{\n\tadmin off\n\tauto_https off\n}\n"+conf)
			cmd := exec.Command("caddy", "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile")
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			return cmd
		},
		all:    []string{"limit=100&window=1m", "limit=%d&window=%s"},
		login:  []string{"limit=5&window=1m", "limit=%d&window=%s"},
		byKey:  []string{"name=login:{remote_host}", "name=login:{header.X-Api-Key}"},
		closed: http.StatusBadGateway,
	},
}

// numbers makes names that nobody else has.
var numbers atomic.Int64

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddr returns an address that nobody listens at just now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A rate as the test has it.
type rate struct {
	limit  int
	window string
}

// start runs the proxy before a backend until the test ends, and returns where it listens.
// It asks lockd at an address, for rates instead of those in its configuration; more is what
// else is replaced in that.
func (p *proxy) start(t *testing.T, lockd string, b *backend, all, login rate, more ...string) (url string) {
	t.Helper()
	if _, err := exec.LookPath(p.name); err != nil {
		t.Skipf("no %s is installed (Debian's package)", p.name)
	}
	change := func(dir string) func(string, ...string) string {
		return func(file string, its ...string) string {
			text := read(t, file)
			pairs := append(append(its, more...), "127.0.0.1:9994", lockd, "127.0.0.1:8000", b.addr,
				p.all[0], fmt.Sprintf(p.all[1], all.limit, all.window), p.login[0], fmt.Sprintf(p.login[1], login.limit, login.window))
			for i := 0; i < len(pairs); i += 2 {
				if !strings.Contains(text, pairs[i]) {
					t.Fatalf("%s has no %q", file, pairs[i])
				}
				text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
			}
			return text
		}
	}
	// Where it has to open its port itself, somebody else may have that by then.
	for range 5 {
		dir, err := os.MkdirTemp("", "lockd-proxy")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		addr := freeAddr(t)
		var socket *os.File
		if p.inherits {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			addr = l.Addr().String()
			if socket, err = l.(*net.TCPListener).File(); err != nil {
				t.Fatal(err)
			}
			l.Close()
		}
		cmd := p.begin(t, dir, addr, change(dir))
		if socket != nil {
			cmd.ExtraFiles = []*os.File{socket}
			defer socket.Close()
		}
		if p.run(t, cmd, b, "http://"+addr) {
			return "http://" + addr
		}
	}
	t.Fatalf("%s does not serve", p.name)
	return ""
}

// run runs the command until the test ends, and tells whether it serves the backend at an
// address.
func (p *proxy) run(t *testing.T, cmd *exec.Cmd, b *backend, url string) bool {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		if t.Failed() {
			t.Logf("%s: %s", p.name, log.Bytes()[:min(log.Len(), 4000)])
		}
	})
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			return false
		default:
		}
		r, err := http.Get(url + "/")
		if err != nil {
			continue
		}
		r.Body.Close()
		if r.Header.Get("Backend") == b.addr || r.StatusCode == http.StatusServiceUnavailable {
			return true
		}
	}
	return false
}

// A backend notes when each request was sent and has come.
type backend struct {
	addr  string
	began time.Time
	mu    sync.Mutex // guards came
	came  []span
}

// A span of time, since the backend began.
type span struct{ sent, came time.Duration }

func newBackend(t *testing.T) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: l.Addr().String(), began: time.Now()}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent, _ := strconv.ParseInt(r.Header.Get("Sent"), 10, 64)
		b.mu.Lock()
		b.came = append(b.came, span{time.Duration(sent), time.Since(b.began)})
		b.mu.Unlock()
		w.Header().Set("Backend", b.addr)
		io.Copy(w, r.Body)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return b
}

// taken returns what has come, and forgets it.
func (b *backend) taken() []span {
	b.mu.Lock()
	defer b.mu.Unlock()
	came := b.came
	b.came = nil
	return came
}

// A client asks over connections of its own.
type client struct {
	t  *testing.T
	b  *backend
	to http.Client
}

func (b *backend) client(t *testing.T) *client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &client{t: t, b: b, to: http.Client{Transport: transport, Timeout: patience}}
}

// ask posts something and returns the answer's status and header. Its own header may have
// a key.
func (c *client) ask(url string, key ...string) (int, http.Header) {
	r, _ := http.NewRequest(http.MethodPost, url, strings.NewReader("hello"))
	r.Header.Set("Sent", strconv.FormatInt(int64(time.Since(c.b.began)), 10))
	r.Header.Set("Authorization", "Bearer the-backend's")
	for _, k := range key {
		r.Header.Set("X-Api-Key", k)
	}
	answer, err := c.to.Do(r)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Error(err)
	}
	if answer.StatusCode == http.StatusOK && string(body) != "hello" {
		c.t.Errorf("the backend got %q", body)
	}
	return answer.StatusCode, answer.Header
}

// A rateServer is a lockd with an address for rates, in a process of its own.
type rateServer struct {
	http string
	cmd  *exec.Cmd
}

func startRates(t *testing.T) *rateServer {
	t.Helper()
	cmd := exec.Command(binary, "serve", "-t", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "off")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &rateServer{cmd: cmd}
	t.Cleanup(s.kill)
	line := make([]byte, 1000)
	n, _ := out.Read(line)
	go io.Copy(io.Discard, out)
	m := regexp.MustCompile(` http=(\S+)`).FindSubmatch(line[:n])
	if m == nil {
		t.Fatalf("its first line is %q", line[:n])
	}
	s.http = string(m[1])
	return s
}

// hang stops it, and returns when it has stopped.
func (s *rateServer) hang(t *testing.T) {
	t.Helper()
	s.cmd.Process.Signal(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("it does not stop: %v, %v", status, err)
	}
}

func (s *rateServer) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// flood has some clients ask for an address so many times in all, each at a URL of its own,
// and returns how many were let through. Whoever was not got a 429 with the fields.
func flood(t *testing.T, b *backend, urls []string, requests int, r rate, ratelimit bool) (through int) {
	t.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	window, _ := time.ParseDuration(r.window)
	policy := fmt.Sprintf(`"default";q=%d;w=%d`, r.limit, int(window.Seconds()))
	for _, url := range urls {
		c := b.client(t)
		wg.Go(func() {
			for range requests / len(urls) {
				status, header := c.ask(url)
				switch {
				case status == http.StatusOK:
					n.Add(1)
					if got := header.Get("RateLimit"); ratelimit && !regexp.MustCompile(`^"default";r=\d+;t=\d+$`).MatchString(got) {
						t.Errorf("RateLimit of a request that was passed on: %q", got)
					}
				case status != http.StatusTooManyRequests:
					t.Errorf("status %d", status)
				default:
					if got := header.Get("Retry-After"); !regexp.MustCompile(`^[1-9]\d*$`).MatchString(got) {
						t.Errorf("Retry-After: %q", got)
					}
					if got := header.Get("RateLimit"); !regexp.MustCompile(`^"default";r=0;t=[1-9]\d*$`).MatchString(got) {
						t.Errorf("RateLimit: %q", got)
					}
					if got := header.Get("RateLimit-Policy"); got != policy {
						t.Errorf("RateLimit-Policy: %q, not %q", got, policy)
					}
				}
				if t.Failed() {
					return
				}
			}
		})
	}
	wg.Wait()
	return int(n.Load())
}

// within checks that the backend never got more than the rate allows. A request was
// decided after it was sent and before it came; so of those that were sent after one
// moment and came before another, there are at most the limit and what comes back
// meanwhile.
func within(t *testing.T, came []span, r rate) {
	t.Helper()
	window, _ := time.ParseDuration(r.window)
	slices.SortFunc(came, func(a, b span) int { return cmp.Compare(a.came, b.came) })
	for _, first := range came {
		n := 0
		for _, s := range came {
			if s.sent < first.sent {
				continue
			}
			n++
			took := s.came - first.sent
			if most := r.limit + int(int64(took)*int64(r.limit)/int64(window)); n > most {
				t.Fatalf("%d requests came through in %v, and %d may", n, took, most)
			}
		}
	}
}

// Four clients ask 10,000 times behind each proxy, with the configuration that stands
// here: what comes through is what the rate allows, over any span of time, and whoever is
// refused is told so. When lockd is gone, or hangs, the proxy is open where its
// configuration says so, and closed elsewhere.
func TestProxies(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			lockd, b := startRates(t), newBackend(t)
			day, second := rate{300, "24h"}, rate{50, "1s"}
			url := p.start(t, lockd.http, b, day, second)
			early := len(b.taken()) // while it was waited for
			four := func(path string) []string { return []string{url + path, url + path, url + path, url + path} }

			through := flood(t, b, four("/login"), 10_000, second, p.ratelimit)
			came := b.taken()
			if len(came) != through || through < second.limit {
				t.Errorf("%d came to the backend, and %d clients were told so", len(came), through)
			}
			within(t, came, second)

			began := time.Now()
			through = flood(t, b, four("/"), 1000, day, p.ratelimit) + early
			back := int(time.Since(b.began)) / int(24*time.Hour/time.Duration(day.limit))
			if came := len(b.taken()) + early; came != through || through < day.limit || through > day.limit+back {
				t.Errorf("%d came through in %v, %d to the backend, of %d", through, time.Since(began), came, day.limit)
			}

			down := func(how string) {
				t.Helper()
				c := b.client(t)
				if status, header := c.ask(url + "/login"); status != p.closed && (status != http.StatusGatewayTimeout || p.closed != http.StatusBadGateway) {
					t.Errorf("lockd %s, closed: %d, %v", how, status, header)
				}
				if n := len(b.taken()); n != 0 {
					t.Errorf("lockd %s, closed: %d came to the backend", how, n)
				}
				for range 3 {
					if status, header := c.ask(url + "/"); status != http.StatusOK {
						t.Errorf("lockd %s, open: %d, %v", how, status, header)
					}
				}
				if n := len(b.taken()); n != 3 {
					t.Errorf("lockd %s, open: %d came to the backend", how, n)
				}
			}
			lockd.hang(t)
			down("hangs")
			lockd.kill()
			down("is gone")
		})
	}
}

// A question that lockd refuses, such as one with a window without a unit, is for nobody to
// be open at: nothing would ever be limited.
func TestProxiesAskRight(t *testing.T) {
	t.Parallel()
	for _, p := range proxies[:2] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			lockd, b := startRates(t), newBackend(t)
			url := p.start(t, lockd.http, b, rate{5, "60"}, rate{5, "60"})
			b.taken()
			for _, path := range []string{"/", "/login"} {
				if status, _ := b.client(t).ask(url + path); status != p.closed || len(b.taken()) != 0 {
					t.Errorf("%s: %d", path, status)
				}
			}
		})
	}
}

// Proxies of two kinds, each with two clients, share a rate.
func TestProxiesShareARate(t *testing.T) {
	t.Parallel()
	lockd, b := startRates(t), newBackend(t)
	login := rate{200, "24h"}
	var urls []string
	for _, p := range proxies[:2] {
		url := p.start(t, lockd.http, b, rate{1000, "1m"}, login)
		urls = append(urls, url+"/login", url+"/login")
	}
	b.taken()
	through := flood(t, b, urls, 1000, login, true)
	back := int(time.Since(b.began)) / int(24*time.Hour/time.Duration(login.limit))
	if came := len(b.taken()); came != through || through < login.limit || through > login.limit+back {
		t.Errorf("%d came through, %d to the backend, of %d", through, came, login.limit)
	}
}

// A rate by what clients send is by that, whatever it is: nobody asks for more with it, and
// none has another one's.
func TestProxiesByKey(t *testing.T) {
	t.Parallel()
	for _, p := range proxies {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			lockd, b := startRates(t), newBackend(t)
			url := p.start(t, lockd.http, b, rate{1000, "1m"}, rate{2, "24h"}, p.byKey...)
			c := b.client(t)
			for _, key := range []string{"a", "b", "a&limit=9", "a&cost=0", "a#", "a?x=/take", "a%26cost=0", "a+b", "a b", "%", "\xff\xfe", "{remote_host}", "$remote_addr", ""} {
				for i, want := range []int{200, 200, 429, 429} {
					if status, _ := c.ask(url+"/login", key); status != want {
						t.Errorf("key %q, time %d: %d", key, i, status)
					}
				}
			}
		})
	}
}
