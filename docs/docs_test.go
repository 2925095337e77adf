// Package docs_test holds the documents and the code together: what one of
// them says and the other does not is a failure here.
package docs_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"html"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/cluster/memstore"
	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/state"
	"github.com/nylen/lockd/pkg/server"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// root is the repository, as seen from this package.
const root = ".."

const module = "github.com/nylen/lockd/"

// patience is how long a test waits for what should come at once.
const patience = 30 * time.Second

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents returns the paths of all documents.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "contrib/*.md", "bench/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, filepath.ToSlash(rel))
		}
	}
	if len(files) < 5 {
		t.Fatalf("found only %q", files)
	}
	return files
}

// part returns what follows the marker `<!-- NAME -->` up to the next heading
// or marker.
func part(t *testing.T, file, name string) string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, file), "<!-- "+name+" -->\n")
	if !ok {
		t.Fatalf("%s has no marker %q", file, name)
	}
	if end := regexp.MustCompile(`(?m)^(#|<!--)`).FindStringIndex(text); end != nil {
		text = text[:end[0]]
	}
	return text
}

// table returns the rows of the first table in a text, without its heading.
func table(t *testing.T, text string) [][]string {
	t.Helper()
	var rows [][]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			if rows != nil {
				break
			}
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		var row []string
		for cell := range strings.SplitSeq(line, "|") {
			row = append(row, strings.TrimSpace(strings.ReplaceAll(cell, "\x00", "|")))
		}
		rows = append(rows, row)
	}
	if len(rows) < 3 {
		t.Fatalf("no table in %.80q", text)
	}
	return rows[2:]
}

// quoted returns what stands between backquotes.
func quoted(cell string) []string {
	var all []string
	for _, m := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(cell, -1) {
		all = append(all, m[1])
	}
	return all
}

// same fails for what only one of two sets has.
func same[V comparable](t *testing.T, what string, document, code map[string]V) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(document)) {
		if v, ok := code[k]; !ok {
			t.Errorf("%s: the document has %q, the code does not", what, k)
		} else if v != document[k] {
			t.Errorf("%s: %q: the document has %v, the code %v", what, k, document[k], v)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(code)) {
		if _, ok := document[k]; !ok {
			t.Errorf("%s: the code has %q, the document does not", what, k)
		}
	}
}

func newServer(t *testing.T) *server.Server { return newServerWith(t, server.Options{}) }

func newServerWith(t *testing.T, opts server.Options) *server.Server {
	t.Helper()
	if opts.TLSCert == "" {
		opts.TLSCert, opts.TLSKey = newCertificate(t)
	}
	s, err := server.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
	})
	return s
}

// newCertificate makes files of a certificate and its key.
func newCertificate(t *testing.T) (cert, key string) {
	t.Helper()
	now := time.Now()
	ca, err := certs.NewAuthority("docs", now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server([]string{"localhost"}, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := errors.Join(os.WriteFile(cert, pair.Cert, 0o600), os.WriteFile(key, pair.Key, 0o600)); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// program builds a command of this module and returns its path.
func program(t *testing.T, source string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "program.exe")
	cmd := exec.Command("go", "build", "-o", binary, source)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// TestFlags compares the README's table with --help, and finds the flags that
// any document names in one of them.
func TestFlags(t *testing.T) {
	lockd := program(t, "./cmd/lockd")
	cmd := exec.Command(lockd, "serve", "--help")
	cmd.Env = append(os.Environ(), "COLUMNS=200")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	inCode := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^ +(?:-([a-z]), +)?--([a-z-]+)(?:=(\S+))?`).FindAllSubmatch(out, -1) {
		if name := string(m[2]); name != "help" {
			inCode[name] = string(m[1]) + " " + strings.TrimSuffix(string(m[3]), ",...")
		}
	}
	inReadme := make(map[string]string)
	for _, row := range table(t, part(t, "README.md", "flags")) {
		words := quoted(row[0])
		short := ""
		if len(words) == 2 {
			short, words = strings.TrimPrefix(words[0], "-"), words[1:]
		}
		name, value, _ := strings.Cut(words[0], " ")
		inReadme[strings.TrimPrefix(name, "--")] = short + " " + value
	}
	// The README explains `off` beside the flag.
	inCode["admin"] = strings.TrimSuffix(inCode["admin"], "|off")
	same(t, "flags with short form and value", inReadme, inCode)

	help := strings.Join(strings.Fields(string(out)), " ")
	for _, row := range table(t, part(t, "README.md", "flags")) {
		if def := row[1]; regexp.MustCompile(`^[0-9.:]+s?$`).MatchString(def) && !strings.Contains(help, def) {
			t.Errorf("%s: the help does not know the default %s", row[0], def)
		}
	}

	// Flags of other programs and of the other commands that documents name.
	others := map[string]bool{"no-install-recommends": true, "now": true, "rm": true, "force": true, "read-only": true, "cap-drop": true, "cacert": true, "from-file": true, "build-arg": true, "ignore-missing": true, "prefix": true, "config": true}
	overview, err := exec.Command(lockd, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^  ([a-z]+)((?: [a-z]+)?)\b`).FindAllSubmatch(overview, -1)
	for _, m := range commands {
		out, err := exec.Command(lockd, append(strings.Fields(string(m[1])+string(m[2])), "--help")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^ +(?:-\w, +)?--([a-z-]+)`).FindAllSubmatch(out, -1) {
			others[string(m[1])] = true
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `lockd ([a-z]+)").FindAllStringSubmatch(read(t, "README.md"), -1) {
		if !slices.ContainsFunc(commands, func(c [][]byte) bool { return string(c[1]) == m[1] }) {
			t.Errorf("README.md has the command %s, the program does not", m[1])
		}
	}
	// What alerts tell people to run, and documents.
	said := regexp.MustCompile(`lockd ([a-z]+) [A-Z]|\(lockd ([a-z]+)|\. lockd ([a-z]+) says`).FindAllStringSubmatch(read(t, "contrib/prometheus/lockd.rules.yaml"), -1)
	if len(said) == 0 {
		t.Error("the alerts name no command")
	}
	for _, file := range documents(t) {
		said = append(said, regexp.MustCompile("`lockd ([a-z]+)[^`]*`|(?m)^\\$ lockd ([a-z]+)").FindAllStringSubmatch(read(t, file), -1)...)
	}
	for _, m := range said {
		word := strings.Join(m[1:], "")
		if !slices.ContainsFunc(commands, func(c [][]byte) bool { return string(c[1]) == word }) {
			t.Errorf("%q is said, and the program has no such command", m[0])
		}
	}
	for _, file := range documents(t) {
		for _, m := range regexp.MustCompile(`[^\w-]--([a-z][a-z-]*)`).FindAllStringSubmatch(read(t, file), -1) {
			if name := m[1]; inCode[name] == "" && name != "help" && !others[name] {
				t.Errorf("%s names --%s, which is no flag", file, name)
			}
		}
	}
}

// TestVersion compares the changelog's newest version with the code's. One
// that is not released yet stands under the heading, as the first word.
func TestVersion(t *testing.T) {
	m := regexp.MustCompile(`(?m)^## \[(?:Unreleased\]\n+)?(\d+\.\d+\.\d+)[\],]`).FindStringSubmatch(read(t, "CHANGELOG.md"))
	if m == nil || m[1] != server.Version {
		t.Errorf("CHANGELOG.md begins with version %v, pkg/server has %s", m, server.Version)
	}
	if !strings.Contains(read(t, "README.md"), "Version "+server.Version) {
		t.Errorf("README.md does not speak of version %s", server.Version)
	}
}

// TestMetrics compares the tables with what the collector gives out.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newServerWith(t, server.Options{WatchNames: []string{"watched"}})
	registry.MustRegister(s.Collector())
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "rl 10 86400000 1 watched\n") // or there would be nothing to tell of the rate
	if reply, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", reply, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	proxy := newServerWith(t, server.Options{MaxKeep: -1, Upstream: &server.Upstream{
		Dial: func(context.Context) (net.Conn, error) { return s.Dial() },
	}})
	proxys := prometheus.NewRegistry()
	proxys.MustRegister(proxy.Collector())
	more, err := proxys.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range more {
		if strings.HasPrefix(f.GetName(), "lockd_upstream_") {
			families = append(families, f)
		}
	}
	for _, f := range clusterFamilies(t) {
		if strings.HasPrefix(f.GetName(), "lockd_cluster_") {
			families = append(families, f)
		}
	}
	metrics := make(map[string]string)
	values := make(map[string]bool)
	var verbs []string
	for _, f := range families {
		var labels []string
		for i, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if i == 0 {
					labels = append(labels, l.GetName())
				}
				switch l.GetName() {
				case "command":
					verbs = append(verbs, l.GetValue())
				case "version", "revision", "goversion", "name", "node":
				default:
					values[l.GetName()+"="+l.GetValue()] = true
				}
			}
		}
		metrics[f.GetName()] = strings.ToLower(f.GetType().String()) + " " + strings.Join(labels, " ")
	}

	inDocument := make(map[string]string)
	for _, row := range table(t, part(t, "docs/metrics.md", "metrics")) {
		inDocument[quoted(row[0])[0]] = row[1] + " " + strings.Join(quoted(row[2]), " ")
	}
	same(t, "metrics with type and labels", inDocument, metrics)

	documented := make(map[string]bool)
	for _, row := range table(t, part(t, "docs/metrics.md", "labels")) {
		documented[quoted(row[0])[0]+"="+quoted(row[1])[0]] = true
	}
	same(t, "labels' values", documented, values)

	t.Run("verbs", func(t *testing.T) {
		inCode := make(map[string]bool)
		for _, verb := range verbs {
			inCode[verb] = true
		}
		inDocument := make(map[string]bool)
		parts := strings.Split(read(t, "docs/protocol.md"), "| request | replies |\n")
		for _, part := range parts[1:] {
			for _, row := range table(t, "| request | replies |\n"+part) {
				for _, request := range quoted(row[0]) {
					verb, _, _ := strings.Cut(request, " ")
					inDocument[verb] = true
				}
			}
		}
		same(t, "verbs in docs/protocol.md", inDocument, inCode)
	})

	// The names in queries are right, too.
	for _, m := range regexp.MustCompile(`lockd_[a-z_]+`).FindAllString(read(t, "docs/metrics.md"), -1) {
		if name, ok := strings.CutSuffix(m, "_bucket"); ok && strings.HasPrefix(metrics[name], "histogram") {
			continue
		}
		if metrics[m] == "" {
			t.Errorf("docs/metrics.md names %s, which is no metric", m)
		}
	}

	t.Run("promtool", func(t *testing.T) {
		promtool, err := exec.LookPath("promtool")
		if err != nil {
			t.Skip("promtool is not installed")
		}
		r := httptest.NewRecorder()
		promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil))
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = r.Body
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("promtool check metrics: %v\n%s", err, out)
		}
	})
}

// clusterFamilies are the metrics of a node of a cluster that has a link to another one.
func clusterFamilies(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	conf, err := cluster.NewConf(cluster.DefaultW, cluster.DefaultG)
	if err != nil {
		t.Fatal(err)
	}
	keys := memstore.New(conf)
	node := func(name string) *server.Server {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := newServerWith(t, server.Options{
			TCP: []string{"systemd:lines"}, Inherited: map[string][]net.Listener{"lines": {l}}, Logger: slog.New(slog.DiscardHandler),
			Cluster: &server.Cluster{
				Store: keys.Store(), Name: name, Addr: l.Addr().String(),
				Dial: func(ctx context.Context, addr string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", addr)
				},
			},
		})
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		return s
	}
	one := node("one")
	node("two")
	registry := prometheus.NewRegistry()
	registry.MustRegister(one.Collector())
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(families, func(f *dto.MetricFamily) bool { return f.GetName() == "lockd_cluster_link_confirmed_seconds" }) {
			return families
		}
		if time.Now().After(end) {
			t.Fatal("there is no link")
		}
	}
}

// TestRoles compares the table of roles with the verbs'.
func TestRoles(t *testing.T) {
	code, document := make(map[string]string), make(map[string]string)
	for _, v := range session.Verbs() {
		code[v.Word] = v.Roles
	}
	for _, row := range table(t, part(t, "docs/protocol.md", "roles")) {
		for _, verbs := range quoted(row[1]) {
			for verb := range strings.FieldsSeq(verbs) {
				switch role := strings.Trim(row[0], "`"); {
				case !strings.HasPrefix(row[0], "`"):
					document[verb] = "anybody"
				case document[verb] == "":
					document[verb] = role + ", admin"
				default:
					document[verb] = strings.TrimSuffix(document[verb], "admin") + role + ", admin"
				}
			}
		}
	}
	for verb, roles := range code {
		if roles == "admin" && document[verb] == "" { // of `all`
			document[verb] = roles
		}
	}
	same(t, "roles", document, code)
}

// TestDisabled: which verbs --disable-dump and --disable-registry turn off stands in the
// README and in --help.
func TestDisabled(t *testing.T) {
	help, err := exec.Command(program(t, "./cmd/lockd"), "serve", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	for flag, opts := range map[string]server.Options{
		"disable-dump":     {DisableDump: true},
		"disable-registry": {DisableRegistry: true},
	} {
		s := newServerWith(t, opts)
		code, readme, helped := make(map[string]bool), make(map[string]bool), make(map[string]bool)
		for _, v := range session.Verbs() {
			request := v.Word
			for range v.Args {
				request += " 1"
			}
			if strings.Contains(v.Rest, "NAME") || v.Rest == "PREFIX" {
				request += " name"
			}
			c, err := s.Dial()
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(patience))
			fmt.Fprintf(c, "%s\nping\n", request)
			if reply, _ := bufio.NewReader(c).ReadString('\n'); reply == "0 disabled\n" {
				code[v.Word] = true
			}
			c.Close()
		}
		for _, row := range table(t, part(t, "README.md", "flags")) {
			if row[0] == "`--"+flag+"`" {
				verbs, _, _ := strings.Cut(row[2], " reply")
				for _, verb := range quoted(verbs) {
					readme[verb] = true
				}
			}
		}
		_, text, _ := strings.Cut(strings.Join(strings.Fields(string(help)), " "), "--"+flag+" Answer ")
		text, _, _ = strings.Cut(text, " with '0 disabled'")
		for verb := range strings.FieldsSeq(strings.ReplaceAll(strings.ReplaceAll(text, ",", ""), " and ", " ")) {
			helped[verb] = true
		}
		same(t, "verbs that --"+flag+" turns off, in the README", readme, code)
		same(t, "verbs that --"+flag+" turns off, in --help", helped, code)
	}
}

// TestSections: comments in the code name these.
func TestSections(t *testing.T) {
	for _, section := range []string{"Reading a request", "Writing a reply"} {
		if !strings.Contains(read(t, "docs/protocol.md"), "\n## "+section+"\n") {
			t.Errorf("docs/protocol.md has no section %q", section)
		}
	}
}

// mayImport is the import picture of docs/internals.md as a rule: nothing of
// ours may be imported but this.
var mayImport = map[string][]string{
	"internal/wire":             {},
	"internal/shard":            {},
	"internal/hosts":            {},
	"internal/page":             {},
	"internal/proxyheader":      {},
	"internal/cputime":          {},
	"internal/admin":            {"internal/api", "internal/hosts", "internal/page", "internal/session"},
	"internal/api":              {"internal/cluster", "internal/session", "internal/shard"},
	"internal/auth":             {"internal/lockfile", "internal/session"},
	"internal/load":             {"internal/cputime", "internal/wire"},
	"internal/lockfile":         {},
	"internal/kept":             {},
	"internal/state":            {"internal/lockfile"},
	"internal/reload":           {},
	"internal/size":             {},
	"internal/clidoc":           {},
	"internal/certs":            {"internal/reload"},
	"internal/command":          {},
	"internal/cluster":          {"internal/kept"},
	"internal/etcd":             {"internal/cluster"},
	"internal/cluster/memstore": {"internal/cluster"},
	"internal/stress":           {},
	"internal/netlab":           {},
	"internal/tlstest":          {"internal/certs"},
	"internal/session":          {"internal/kept", "internal/wire", "internal/shard"},
	"internal/httprate":         {"internal/conn", "internal/hosts", "internal/session", "internal/shard", "internal/wire"},
	"internal/conn":             {"internal/wire", "internal/session", "internal/hosts", "internal/proxyheader", "internal/size"},
	"internal/metrics":          {"internal/cluster", "internal/conn", "internal/session", "internal/shard"},
	"pkg/server":                {"internal/wire", "internal/shard", "internal/session", "internal/conn", "internal/metrics", "internal/admin", "internal/api", "internal/auth", "internal/certs", "internal/cluster", "internal/cputime", "internal/hosts", "internal/httprate", "internal/lockfile", "internal/reload", "internal/size", "internal/state"},
	"pkg/client":                {"internal/kept", "internal/wire"},
	"pkg/cluster":               {"internal/cluster", "internal/etcd"},
	"cmd/lockd":                 {"pkg/server", "pkg/client", "internal/auth", "internal/certs", "internal/clidoc", "internal/cluster", "internal/command", "internal/etcd", "internal/load", "internal/lockfile", "internal/session", "internal/size", "internal/state", "internal/wire"},
}

// stateOnly are packages of states and rules, and what they have to do without:
// sockets, files and the system.
var stateOnly = map[string][]string{
	"internal/wire":    {"net", "net/http", "os", "syscall", "time"},
	"internal/shard":   {"net", "net/http", "os", "syscall", "time"},
	"internal/session": {"net", "net/http", "os", "syscall"},
	"internal/cluster": {"net", "net/http", "os", "syscall"},
}

// TestEtcd: who has a server or a client in a program of theirs does not link etcd's
// client, with its hundred and more packages. Only who imports pkg/cluster does.
func TestEtcd(t *testing.T) {
	for _, of := range []string{"pkg/server", "pkg/client", "internal/cluster", "examples/client", "examples/middleware"} {
		if got := linked(t, of); len(got) > 0 {
			t.Errorf("%s links %q", of, got)
		}
	}
	for _, of := range []string{"pkg/cluster", "cmd/lockd"} {
		if len(linked(t, of)) == 0 {
			t.Errorf("%s does not link etcd's client: is it looked for by another name?", of)
		}
	}
}

// linked returns what a package of this module links of etcd and gRPC.
func linked(t *testing.T, dir string) (packages []string) {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "./"+dir)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(name, "go.etcd.io/") || strings.HasPrefix(name, "google.golang.org/grpc") {
			packages = append(packages, name)
		}
	}
	return packages
}

// TestImports finds upward imports, on whatever system a file is for, and
// compares the table with the code.
func TestImports(t *testing.T) {
	inCode := make(map[string]map[string]bool)
	walk(t, func(file string) {
		dir := path.Dir(file)
		if top, _, _ := strings.Cut(dir, "/"); !slices.Contains([]string{"internal", "pkg", "cmd"}, top) ||
			!strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.Contains(dir, "/testdata") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		if inCode[dir] == nil {
			inCode[dir] = make(map[string]bool)
		}
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if slices.Contains(stateOnly[dir], imported) {
				t.Errorf("%s imports %s: it has to do without", file, imported)
			}
			ours, ok := strings.CutPrefix(imported, module)
			if !ok {
				continue
			}
			inCode[dir][ours] = true
			if !slices.Contains(mayImport[dir], ours) {
				t.Errorf("%s imports %s, which it may not", file, ours)
			}
		}
	})
	_, tour, _ := strings.Cut(read(t, "docs/internals.md"), "\n## In reading order\n")
	tour, _, _ = strings.Cut(tour, "\n## ")
	for dir := range inCode {
		if !strings.Contains(tour, "(../"+dir+"/") {
			t.Errorf("package %s is not in the reading order of docs/internals.md", dir)
		}
	}
	list := func(imports []string) string { return strings.Join(slices.Sorted(slices.Values(imports)), " ") }
	code, document := make(map[string]string), make(map[string]string)
	for dir, imports := range inCode {
		if mayImport[dir] == nil {
			t.Errorf("package %s has no place in docs/internals.md and in this test", dir)
		}
		code[dir] = list(slices.Collect(maps.Keys(imports)))
	}
	for _, row := range table(t, part(t, "docs/internals.md", "imports")) {
		document[quoted(row[0])[0]] = list(quoted(row[1]))
	}
	same(t, "imports", document, code)
}

// TestDependencies compares docs/internals.md with go.mod.
func TestDependencies(t *testing.T) {
	text := read(t, "docs/internals.md")
	for _, m := range regexp.MustCompile(`(?m)^\t(?:require )?(\S+) v\S+$`).FindAllStringSubmatch(read(t, "go.mod"), -1) {
		if !strings.Contains(text, "`"+m[1]+"`") {
			t.Errorf("docs/internals.md gives no reason for %s", m[1])
		}
	}
}

// walk calls f with the paths of the repository's files.
func walk(t *testing.T, f func(file string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if file == ".git" || file == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() && file != ".git" { // a file in a worktree
			f(file)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLocalPaths finds the paths of somebody's own machine.
func TestLocalPaths(t *testing.T) {
	local := regexp.MustCompile(`(^|[^\w.\-/])/(work|root|home/\w+|Users/\w+)/`)
	walk(t, func(file string) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil || bytes.IndexByte(text, 0) >= 0 || strings.Contains(file, "testdata/fuzz/") {
			return
		}
		if m := local.Find(text); m != nil {
			t.Errorf("%s names a path of one machine: %q", file, m)
		}
	})
}

// TestLinks follows the links between documents and to files.
func TestLinks(t *testing.T) {
	fence := regexp.MustCompile("(?ms)^```.*?^```$")
	anchors := make(map[string]map[string]bool)
	text := make(map[string]string)
	for _, file := range documents(t) {
		text[file] = fence.ReplaceAllString(read(t, file), "")
		anchors[file] = make(map[string]bool)
		for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text[file], -1) {
			slug := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
			anchors[file][strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	for _, file := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text[file], -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(m[1], "#")
			to := file
			if target != "" {
				to = path.Join(path.Dir(file), target)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			} else if anchor != "" && !anchors[to][anchor] {
				t.Errorf("%s links to %s, which has no such heading", file, m[1])
			}
		}
	}
	// Code refers to documents, too.
	walk(t, func(file string) {
		if !strings.HasSuffix(file, ".go") {
			return
		}
		for _, m := range regexp.MustCompile(`docs/[a-z]+\.md`).FindAllString(read(t, file), -1) {
			if _, err := os.Stat(filepath.Join(root, m)); err != nil {
				t.Errorf("%s names %s: %v", file, m, err)
			}
		}
	})
}

// TestMake: what documents tell to make, the Makefile can.
func TestMake(t *testing.T) {
	targets := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^([a-z]+):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	for _, file := range append(documents(t), ".ci/run") {
		for _, m := range regexp.MustCompile("(?m)(?:`|^ +|^step )make ([a-z]+)").FindAllStringSubmatch(read(t, file), -1) {
			if !targets[m[1]] {
				t.Errorf("%s tells to make %s, which the Makefile does not know", file, m[1])
			}
		}
	}
}

// TestInstallsNothing: what tests lack is told in a line each, and got only if
// that is asked for.
func TestInstallsNothing(t *testing.T) {
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip(err)
	}
	for _, file := range []struct{ name, line string }{
		{"Makefile", "\nINSTALL  ?= 0\n"}, {"Makefile", "\t@tools/testdeps.sh $(INSTALL)\n"}, {".ci/run", "\nstep make test TESTFLAGS=-count=1 INSTALL=1\n"},
	} {
		if !strings.Contains(read(t, file.name), file.line) {
			t.Errorf("%s has no line %q", file.name, file.line)
		}
	}
	// All that the script may use, and an apt-get that tells that it was called.
	folder := t.TempDir()
	for _, name := range []string{"dirname", "mktemp", "rm", "id", "timeout", "mkdir", "mv", "uname"} {
		program, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(program, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	called := filepath.Join(folder, "called")
	for _, name := range []string{"apt-get", "dpkg-deb"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n>"+called+"\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tools := filepath.Join(t.TempDir(), "tools") // not the repository's, which may have a promtool
	if err := os.MkdirAll(tools, 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(tools, "testdeps.sh")
	if err := os.WriteFile(script, []byte(read(t, "tools/testdeps.sh")), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, install := range []string{"0", "1"} {
		cmd := exec.Command("/bin/sh", script, install)
		cmd.Env = []string{"PATH=" + folder}
		out, err := cmd.CombinedOutput()
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		lacking := []string{"promtool", "Chromium", "axe", "haproxy", "nginx", "caddy"}
		if runtime.GOOS == "linux" {
			lacking = append(lacking, "nft", "zsh", "fish", "mandoc", "systemd-analyze", "lintian", "rpm", "debian.tar.gz")
		}
		lacking = append(lacking, "php", "python", "ruby", "node")
		if err != nil || !slices.EqualFunc(lines, lacking, strings.Contains) {
			t.Errorf("INSTALL=%s: %v\n%s", install, err, out)
		}
		if _, err := os.Stat(called); (err == nil) != (install == "1") {
			t.Errorf("INSTALL=%s: apt-get was called: %v", install, err == nil)
		}
	}
}

// TestExamples plays the conversations in the documents, `A> request`,
// `A< reply` and `A| what happens to the connection`, against a server, each
// against a new one.
func TestExamples(t *testing.T) {
	var played int
	for _, file := range documents(t) {
		for _, m := range regexp.MustCompile("(?ms)^```\n([AB]> .*?)^```$").FindAllStringSubmatch(read(t, file), -1) {
			played++
			t.Run(fmt.Sprint(file, "/", played), func(t *testing.T) { play(t, m[1]) })
		}
	}
	if played < 5 {
		t.Errorf("found only %d examples", played)
	}
}

var (
	fencingToken = regexp.MustCompile(`\b1\d{15}\b`)
	retryTime    = regexp.MustCompile(`Rate Limited \d+ ms`)
	keptKey      = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	losses       = regexp.MustCompile(`\t(held|waited|refused)\t([a-z_]+)\t\d+\t\d+\t`)
	since        = regexp.MustCompile(`\t(held|open)\t\d+\t`)
)

// alike tells whether a reply is the one in the document. Tokens and times are
// different ones each time; the same token stands for the same one, and their
// order is that of the document. KEYs are others each time, too.
func alike(got, want string, tokens map[string]string) bool {
	gots, wants := fencingToken.FindAllString(got, -1), fencingToken.FindAllString(want, -1)
	if len(gots) != len(wants) {
		return false
	}
	for i, w := range wants {
		for known, is := range tokens {
			if len(known) == len(w) && strings.Compare(known, w) != strings.Compare(is, gots[i]) {
				return false
			}
		}
		tokens[w] = gots[i]
	}
	if key := keptKey.FindString(want); key != "" {
		if is, known := tokens[key]; known {
			want = strings.ReplaceAll(want, key, is)
		} else if tokens[key] = keptKey.FindString(got); tokens[key] != "" {
			want = strings.ReplaceAll(want, key, tokens[key])
		}
	}
	same := func(s string) string {
		s = retryTime.ReplaceAllString(fencingToken.ReplaceAllString(s, "TOKEN"), "Rate Limited RETRY ms")
		s = losses.ReplaceAllString(s, "\t$1\t$2\tAGO\tLASTED\t")
		return since.ReplaceAllString(s, "\t$1\tSINCE\t")
	}
	return same(got) == same(want)
}

// exampleTokens are those that examples show. A server asks for one if an example
// is about that.
var exampleTokens = map[string]string{"deploy lock:deploy/": "lockd_deploy", "grafana read": "lockd_grafana"}

func play(t *testing.T, script string) {
	var opts server.Options
	if strings.Contains(script, "> auth ") {
		var lines strings.Builder
		for entry, token := range exampleTokens {
			fmt.Fprintf(&lines, "%s sha256:%x\n", entry, sha256.Sum256([]byte(token)))
		}
		opts.AuthFile = filepath.Join(t.TempDir(), "auth")
		if err := os.WriteFile(opts.AuthFile, []byte(lines.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(script, " keep ") {
		opts.State = filepath.Join(t.TempDir(), "state")
		if err := state.New(opts.State); err != nil {
			t.Fatal(err)
		}
	}
	s := newServerWith(t, opts)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	type client struct {
		*net.TCPConn
		*bufio.Reader
		sessions bool // it speaks protocol 2
		ended    bool
	}
	clients := make(map[string]*client)
	addrs := map[string]string{"A": "10.0.0.7:51234", "B": "10.0.0.8:40112"}
	if strings.Contains(script, "\nC> ") {
		addrs["C"] = "10.0.0.9:33580"
	}
	for name, addr := range addrs {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		clients[name] = &client{TCPConn: c.(*net.TCPConn), Reader: bufio.NewReader(c)}
		script = strings.ReplaceAll(script, addr, c.LocalAddr().String())
	}
	tokens := make(map[string]string)
	expect := func(name, want string) {
		t.Helper()
		if got, err := clients[name].ReadString('\n'); !alike(got, want+"\n", tokens) || err != nil {
			t.Fatalf("%s got %q (%v), want %q", name, got, err, want)
		}
	}
	last := "" // who has sent something and read nothing since
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		name, text := line[:1], line[3:]
		c := clients[name]
		if last != "" && last != name {
			// It waits, so no reply tells that its request has arrived.
			time.Sleep(50 * time.Millisecond)
		}
		last = ""
		switch what := line[1:3]; {
		case what == "> ":
			for known, is := range tokens { // that the client has been told
				text = strings.ReplaceAll(text, known, is)
			}
			io.WriteString(c.TCPConn, text+"\n")
			c.sessions = c.sessions || text == "hello 2"
			last = name
		case what == "< ":
			expect(name, text)
		case what == "| " && text == "closes its sending side":
			c.CloseWrite()
		case what == "| " && text == "loses its connection":
			c.Close()
			c.ended = true
		case what == "| " && text == "the server shuts down":
			go s.Shutdown(context.Background())
		case what == "| " && text == "is disconnected":
			if b, err := c.ReadByte(); err != io.EOF {
				t.Fatalf("%s got %q (%v), want the end", name, b, err)
			}
			c.ended = true
		default:
			t.Fatalf("%q is neither a request nor a reply", line)
		}
	}
	for name, c := range clients { // nothing more was sent
		switch {
		case c.ended:
		case c.sessions:
			io.WriteString(c.TCPConn, "0 i nothing\n")
			expect(name, "0 0 Lock Not Locked: nothing")
		default:
			io.WriteString(c.TCPConn, "i nothing\n")
			expect(name, "0 Lock Not Locked: nothing")
		}
	}
}

// TestTry runs the commands with nc, without nc.
func TestTry(t *testing.T) {
	tries := regexp.MustCompile(`(?m)^( *)\$ printf '(.*)' \| nc -N 127.0.0.1 9999\n((?:.+\n)*)`).
		FindAllStringSubmatch(strings.ReplaceAll(read(t, "README.md"), "```\n", "\n"), -1)
	if len(tries) != 2 {
		t.Fatalf("found %d commands, want 2", len(tries))
	}
	for _, try := range tries {
		c, err := newServer(t).Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, strings.ReplaceAll(try[2], `\n`, "\n"))
		c.(interface{ CloseWrite() error }).CloseWrite()
		got, err := io.ReadAll(c)
		if want := strings.ReplaceAll("\n"+try[3], "\n"+try[1], "\n")[1:]; string(got) != want || err != nil {
			t.Errorf("%s: got %s (%v), want %s", try[2], got, err, want)
		}
	}
}

// TestPrograms compiles the programs in the README, and runs the one that
// needs nothing from outside.
func TestPrograms(t *testing.T) {
	programs := regexp.MustCompile("(?ms)^```go\n(.*?)^```$").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(programs) != 3 {
		t.Fatalf("found %d programs, want 3", len(programs))
	}
	for _, p := range programs {
		source := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(source, []byte(p[1]), 0o666); err != nil {
			t.Fatal(err)
		}
		binary := program(t, source)
		if !strings.Contains(p[1], "pkg/server") {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if out, err := exec.CommandContext(ctx, binary).CombinedOutput(); string(out) != "<nil>\n" || err != nil {
			t.Errorf("the program that embeds a server: %v\n%s", err, out)
		}
	}
}

// TestBrowser opens the README's page in a browser.
func TestBrowser(t *testing.T) {
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
	m := regexp.MustCompile("(?ms)^```html\n(.*?)^```$").FindStringSubmatch(part(t, "README.md", "browser"))
	if m == nil {
		t.Fatal("no page in the README")
	}

	// The page tells its title.
	var page string
	loaded, titles := make(chan bool, 16), make(chan string, 16)
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, page)
			loaded <- true
		case "/title":
			titles <- r.URL.Query().Get("is")
		}
	}))
	origin := "http://" + web.Listener.Addr().String()

	s, err := server.New(server.Options{WebSocketOrigins: []string{origin}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.ServeWebSocket(l)
	stopServer := func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
	}
	defer stopServer()
	page = strings.Replace(m[1], "ws://127.0.0.1:9998/", "ws://"+html.EscapeString(l.Addr().String())+"/", 1) + `<script>
let told = "";
setInterval(() => {
  if (document.title != told) fetch("/title?is=" + encodeURIComponent(told = document.title));
}, 20);
</script>`
	web.Start()
	defer web.Close()

	profile, err := os.MkdirTemp("", "lockd-browser")
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: the browser may still write there when it was killed.
	defer os.RemoveAll(profile)
	cmd := exec.CommandContext(t.Context(), browser, "--headless", "--no-sandbox", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-port=0", "--user-data-dir="+profile, origin+"/")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Skipf("the browser does not start: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	stopBrowser := func() {
		cmd.Process.Kill()
		<-ended
	}

	select {
	case <-loaded:
		defer stopBrowser()
	case err := <-ended:
		t.Skipf("the browser does not work here: %v", err)
	case <-time.After(patience):
		stopBrowser()
		t.Skip("the browser does not work here: it opened nothing")
	}
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-titles:
			if got != want {
				t.Fatalf("the page's title is %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("the page's title never became %q", want)
		}
	}
	expect("ours as long as this page is open")
	stopServer()
	expect("lost, and every lock with it")
}
