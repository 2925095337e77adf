package contrib_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/certs"
)

const (
	rulesFile     = "prometheus/lockd.rules.yaml"
	rulesTestFile = "prometheus/lockd.test.yaml"
	dashboardFile = "grafana/lockd.json"
)

// program returns where a program is, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("there is no ", name)
	}
	return path
}

// alerts returns the names of all alerts, each with its rule as it stands in the file.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, rule := range strings.Split(read(t, rulesFile), "\n      - alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		all[name] = rest
	}
	if len(all) < 20 {
		t.Fatalf("found only %d alerts", len(all))
	}
	return all
}

// The rules are right by Prometheus's own tool, and so are their unit tests, in which
// each alert is quiet, fires, and fires for nobody else.
func TestRules(t *testing.T) {
	t.Parallel()
	tests := read(t, rulesTestFile)
	for name := range alerts(t) {
		quiet := regexp.MustCompile(`alertname: ` + name + `\n +exp_alerts: \[\]\n`)
		fires := regexp.MustCompile(`alertname: ` + name + `\n +exp_alerts:\n +- exp_labels: \{.*instance: "bad:9997".*\}\n`)
		series := regexp.MustCompile(`(?s)- name: ` + name + `\n.*?alert_rule_test`).FindString(tests)
		if !quiet.MatchString(tests) || !fires.MatchString(tests) || !strings.Contains(series, "good:9997") {
			t.Errorf("%s has no test of when it is quiet, fires, and does not for others", name)
		}
	}
	promtool := program(t, "promtool")
	for _, args := range [][]string{{"check", "rules", filepath.Base(rulesFile)}, {"test", "rules", filepath.Base(rulesTestFile)}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = filepath.Dir(rulesFile)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// Each alert says what to do, leads to its runbook, and is in the documents, which have
// no others.
func TestAlertsAreDocumented(t *testing.T) {
	t.Parallel()
	documented := make(map[string]string)
	for _, row := range regexp.MustCompile("(?m)^\\| `(Lockd\\w+)` \\| (\\w+) \\| .+ \\|$").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		documented[row[1]] = row[2]
	}
	runbook := make(map[string]bool)
	for _, heading := range regexp.MustCompile(`(?m)^#+ Alert: (\w+)$`).FindAllStringSubmatch(read(t, "../docs/operations.md"), -1) {
		runbook[heading[1]] = true
	}
	for name, rule := range alerts(t) {
		severity := regexp.MustCompile(`labels: \{severity: (critical|warning|info)\}`).FindStringSubmatch(rule)
		if severity == nil || documented[name] != severity[1] {
			t.Errorf("%s has the severity %v, docs/metrics.md says %q", name, severity, documented[name])
		}
		for _, want := range []string{" summary: ", " description: ", " runbook_url: https://github.com/nylen/lockd/blob/main/docs/operations.md#alert-" + strings.ToLower(name) + "\n"} {
			if !strings.Contains(rule+"\n", want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if !runbook[name] {
			t.Errorf("docs/operations.md has no section Alert: %s", name)
		}
		delete(documented, name)
		delete(runbook, name)
	}
	if len(documented)+len(runbook) > 0 {
		t.Errorf("documented, but no alerts: %v, %v", documented, runbook)
	}
}

// A dashboard is what this test needs to know of one of Grafana's.
type dashboard struct {
	Title, UID    string
	SchemaVersion int
	Panels        []struct {
		ID         int
		Type       string
		Title      string
		Datasource *datasource
		GridPos    struct{ X, Y, W, H int }
		Targets    []struct {
			Datasource                *datasource
			Expr, RefID, LegendFormat string
		}
		FieldConfig, Options json.RawMessage
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Datasource *datasource
		}
	}
	Annotations struct {
		List []struct {
			Name, Expr string
			Datasource *datasource
		}
	}
}

type datasource struct{ Type, UID string }

var fromVariable = datasource{"prometheus", "${datasource}"}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The dashboard can be imported anywhere: its panels have places that do not overlap,
// and ask the Prometheus that is chosen for the servers that are chosen.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 || d.SchemaVersion > 39 {
		t.Errorf("%q, %q, schema %d", d.Title, d.UID, d.SchemaVersion)
	}
	if strings.Contains(read(t, dashboardFile), "__inputs") {
		t.Error("it asks for a data source besides its variable")
	}
	var rows []string
	ids, cells := make(map[int]string), make(map[[2]int]string)
	for _, p := range d.Panels {
		if before := ids[p.ID]; before != "" || p.ID == 0 {
			t.Errorf("%q and %q have the ID %d", p.Title, before, p.ID)
		}
		ids[p.ID] = p.Title
		g := p.GridPos
		if g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q has its place outside: %+v", p.Title, g)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if before := cells[[2]int{x, y}]; before != "" {
					t.Errorf("%q lies over %q", p.Title, before)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			rows = append(rows, p.Title)
			continue
		}
		if !slices.Contains([]string{"timeseries", "stat", "bargauge", "heatmap"}, p.Type) {
			t.Errorf("%q is a %s", p.Title, p.Type)
		}
		if p.Title == "" || p.Datasource == nil || *p.Datasource != fromVariable || len(p.Targets) == 0 || p.FieldConfig == nil || p.Options == nil {
			t.Errorf("%q lacks something: %+v", p.Title, p)
		}
		refs := make(map[string]bool)
		for _, q := range p.Targets {
			if *q.Datasource != fromVariable || refs[q.RefID] || q.RefID == "" || q.LegendFormat == "" {
				t.Errorf("%q: a query lacks something: %+v", p.Title, q)
			}
			refs[q.RefID] = true
			if !strings.Contains(q.Expr, `{job=~"$job", instance=~"$instance"`) && !strings.Contains(q.Expr, `job=~"$job", instance=~"$instance"}`) {
				t.Errorf("%q: %s does not ask for the servers that are chosen", p.Title, q.Expr)
			}
		}
	}
	want := []string{"Health", "Requests", "Locks and queues", "Waits", "Losses", "Kept clients", "Proxies", "Cluster", "Rates", "Bounds", "Connections", "CPU", "Go"}
	if !slices.Equal(rows, want) {
		t.Errorf("its rows are %q, not %q", rows, want)
	}
	var variables []string
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name+" "+v.Type)
	}
	if want := []string{"datasource datasource", "job query", "instance query"}; !slices.Equal(variables, want) {
		t.Errorf("its variables are %q, not %q", variables, want)
	}
}

// A query is one of the dashboard or of the rules, with what stands for variables in
// place.
type query struct{ where, expr string }

func queries(t *testing.T) (all []query) {
	t.Helper()
	d := readDashboard(t)
	add := func(where, expr string) {
		expr = strings.NewReplacer(`$__rate_interval`, "1m", `$__range`, "1h", `$job`, ".+", `$instance`, ".+").Replace(expr)
		if strings.Contains(expr, "$") {
			t.Errorf("%s: a variable that is not known: %s", where, expr)
		}
		all = append(all, query{where, expr})
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			add("panel "+p.Title, q.Expr)
		}
	}
	for _, a := range d.Annotations.List {
		if a.Expr != "" {
			add("annotation "+a.Name, a.Expr)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)- (?:record|alert): (\S+)\n +expr: (.+)$`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		add("rule "+m[1], m[2])
	}
	if len(all) < 90 {
		t.Fatalf("found only %d queries", len(all))
	}
	return all
}

var token = regexp.MustCompile(`"[^"]*"|([a-zA-Z_:][\w:]*)((?:\{(?:[^"}]|"[^"]*")*\})?)`)

// selectors returns the series that a query is about, each as a query of its own.
func selectors(expr string) (all []string) {
	for _, m := range token.FindAllStringSubmatch(expr, -1) {
		if regexp.MustCompile(`^(lockd_|go_|process_|instance:|up$|ALERTS$)`).MatchString(m[1]) {
			all = append(all, m[1]+m[2])
		}
	}
	return all
}

// documentedMetrics returns the names in the table of docs/metrics.md.
func documentedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `(lockd_\\w+)` \\| (?:counter|gauge|histogram) ").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		all[m[1]] = true
	}
	if len(all) < 30 {
		t.Fatalf("found only %d metrics", len(all))
	}
	return all
}

// All metrics that queries name exist, and all that exist are named, so that somebody
// has thought of each.
func TestQueriesNameMetrics(t *testing.T) {
	t.Parallel()
	known := documentedMetrics(t)
	recorded := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)- record: (\S+)$`).FindAllStringSubmatch(read(t, rulesFile), -1) {
		recorded[m[1]] = true
	}
	used := make(map[string]bool)
	for _, q := range queries(t) {
		for _, s := range selectors(q.expr) {
			name, _, _ := strings.Cut(s, "{")
			if !strings.HasPrefix(q.where, "rule ") && strings.HasPrefix(name, "instance:") {
				t.Errorf("%s needs a recording rule, which not everybody has", q.where)
			}
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, suffix); ok && known[base] {
					name = base
				}
			}
			used[name] = true
			if strings.HasPrefix(name, "lockd_") && !known[name] || strings.HasPrefix(name, "instance:") && !recorded[name] {
				t.Errorf("%s names %s, which does not exist", q.where, name)
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("neither the dashboard nor a rule uses %s", name)
		}
	}
}

// load has clients do all that counts, until the test is over.
func load(t *testing.T, addr string) {
	t.Helper()
	over := make(chan struct{})
	var clients sync.WaitGroup
	t.Cleanup(func() {
		close(over)
		clients.Wait()
	})
	// dialogue asks in turns, and reads a line for each request but those that begin
	// with a blank.
	dialogue := func(requests ...string) {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(c)
		for _, r := range requests {
			io.WriteString(c, strings.TrimPrefix(r, " ")+"\n")
			if !strings.HasPrefix(r, " ") {
				if _, err := in.ReadString('\n'); err != nil {
					t.Errorf("%s: %v", r, err)
					return
				}
			}
		}
	}
	again := func(requests ...string) {
		clients.Go(func() {
			for {
				dialogue(requests...)
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	keep := func(request string) {
		c, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, request+"\nping\n")
		if !strings.HasPrefix(request, "gw") {
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	keep("g watched")
	keep("gw 3600000 watched")
	keep("sg watched")
	again("g a", "i a", "r a", "sg pool", "si pool", "sr pool", "gw 1 watched", "sgl 1 watched")
	again("rl 10 86400000 1 watched", "ri 10 86400000 watched", "me", "g orphan", " nonsense", "ping")
	again("gw 1000 turns", "ping", "r turns")
	again("gw 1000 turns", "ping", "r turns")
	clients.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
			c, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(c, "GET / HTTP/1.1\r\n\r\n") // which is refused
			io.Copy(io.Discard, c)
			c.Close()
		}
	})
}

// certificate makes files of a certificate and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	now := time.Now()
	until := now.AddDate(1, 0, 0) // or the log would begin with a warning
	ca, err := certs.NewAuthority("monitoring", now, until)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server([]string{"localhost"}, now, until)
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

// prometheus is one that scrapes a lockd, and runs its rules.
type prometheus struct {
	t       *testing.T
	url     string
	cluster bool // it scrapes nodes of a cluster, too
}

func startPrometheus(t *testing.T, targets []string, flags ...string) *prometheus {
	t.Helper()
	path := program(t, "prometheus")
	rules, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `
global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - job_name: lockd
    static_configs: [{targets: [%s]}]
`, rules, strings.Join(targets, ", ")), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(flags, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	addr, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		listening := regexp.MustCompile(`[Ll]istening on"? address=(127\.0\.0\.1:[1-9]\d*)`)
		for in := bufio.NewScanner(stderr); in.Scan(); {
			log.WriteString(in.Text() + "\n")
			if m := listening.FindStringSubmatch(in.Text()); m != nil {
				select {
				case addr <- m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
		cmd.Wait()
		if t.Failed() {
			t.Logf("Prometheus says:\n%s", log.String())
		}
	})
	select {
	case a := <-addr:
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			resp, err := http.Get("http://" + a + "/-/ready")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return &prometheus{t: t, url: "http://" + a}
			}
		}
		t.Fatal("Prometheus does not become ready")
	case <-ended:
		t.Fatal("Prometheus has ended")
	case <-time.After(patience):
		t.Fatal("Prometheus does not listen")
	}
	return nil
}

// api asks, and decodes the data of the answer.
func (p *prometheus) api(path string, args url.Values, data any) error {
	resp, err := http.Get(p.url + "/api/v1/" + path + "?" + args.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// found tells how many series a query finds that have a value: a number, or a native
// histogram.
func (p *prometheus) found(expr string) (n int, err error) {
	var data struct {
		Result []struct {
			Value     [2]any
			Histogram []any
		}
	}
	err = p.api("query", url.Values{"query": {expr}}, &data)
	for _, r := range data.Result {
		if number, ok := r.Value[1].(string); ok && number != "NaN" || len(r.Histogram) > 0 {
			n++
		}
	}
	return n, err
}

// mayBeEmpty are queries that find nothing here, and why.
var mayBeEmpty = map[string]string{
	`rate(lockd_losses_unlogged_total{job=~".+", instance=~".+"}[1m]) > 0`: "the log is not asked for losses",
}

// TestMonitoring runs all queries of the dashboard and the rules on a Prometheus that
// has scraped a server under load: each finds something. Prometheus is there twice: in
// one histograms are classic, in the other those are native that can be.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	program(t, "prometheus")
	cert, key := certificate(t)
	start := func(args ...string) (tcp, admin string) {
		t.Helper()
		line := serve(t, exec.Command(binary, append(args, "-t", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-timeout", "0s")...))
		addr := make(map[string]string)
		for _, m := range regexp.MustCompile(`\b(tcp|admin)=(\S+)`).FindAllStringSubmatch(line, -1) {
			addr[m[1]] = m[2]
		}
		if addr["tcp"] == "" || addr["admin"] == "" {
			t.Fatalf("it does not say where it listens: %s", line)
		}
		return addr["tcp"], addr["admin"]
	}
	tcp, server := start("serve", "--tls", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--watch-names", "watched")
	_, proxy := start("proxy", "-s", tcp)
	load(t, tcp)
	targets := []string{server, proxy}
	if at := startEtcd(t); at != "" {
		if out, err := exec.Command(binary, "cluster", "init", "--cluster", at).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		for _, name := range []string{"n1", "n2"} {
			own := freeAddr(t)
			_, admin := start("serve", "--cluster", at, "--node", name, "--advertise", own, "-t", own)
			targets = append(targets, admin)
		}
	}
	for histograms, flags := range map[string][]string{"classic": nil, "native": {"--enable-feature=native-histograms"}} {
		p := startPrometheus(t, targets, flags...)
		p.cluster = len(targets) > 2
		t.Run(histograms, func(t *testing.T) { p.check(t, histograms) })
	}
}

// startEtcd returns where an etcd is that it has started; "": there is none to start.
func startEtcd(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("etcd")
	if err != nil {
		t.Log("there is no etcd, so no node of a cluster")
		return ""
	}
	clients, peers := freeAddr(t), "http://"+freeAddr(t)
	cmd := exec.Command(path, "--data-dir", t.TempDir(), "--listen-client-urls", "http://"+clients, "--advertise-client-urls", "http://"+clients,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "default="+peers, "--log-level", "error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get("http://" + clients + "/health")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return "etcd://" + clients + "/lockd"
			}
		}
		if time.Now().After(end) {
			t.Fatalf("etcd does not answer: %v", err)
		}
	}
}

func (p *prometheus) check(t *testing.T, histograms string) {
	t.Parallel()
	p.t = t
	other := map[string]string{"classic": "lockd_wait_seconds", "native": "lockd_wait_seconds_bucket"}[histograms]
	end := time.Now().Add(patience)
	find := func(where, expr string) {
		t.Helper()
		for {
			n, err := p.found(expr)
			if err != nil {
				t.Errorf("%s: %s: %v", where, expr, err)
			}
			if err != nil || n > 0 {
				return
			}
			if time.Now().After(end) {
				t.Errorf("%s: %s finds nothing", where, expr)
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	for _, q := range queries(t) {
		if strings.Contains(q.expr, "lockd_cluster_") && !p.cluster {
			if _, err := p.found(q.expr); err != nil {
				t.Errorf("%s: %s: %v", q.where, q.expr, err)
			}
			continue
		}
		// An alert finds nothing when all is well.
		if !strings.HasPrefix(q.where, "rule Lockd") && mayBeEmpty[q.expr] == "" {
			find(q.where, q.expr)
		} else if _, err := p.found(q.expr); err != nil {
			t.Errorf("%s: %s: %v", q.where, q.expr, err)
		}
		for _, s := range selectors(q.expr) {
			if name, _, _ := strings.Cut(s, "{"); name != other {
				find(q.where, s)
			}
		}
	}
	if n, err := p.found(other); err != nil || n != 0 {
		t.Errorf("%s is there %d times, %v: this Prometheus does not have %s histograms", other, n, err, histograms)
	}
	// What the dashboard's variables are chosen from.
	for _, v := range readDashboard(t).Templating.List {
		var query struct{ Query string }
		if v.Type != "query" {
			continue
		}
		if err := json.Unmarshal(v.Query, &query); err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(`^label_values\((.+), (\w+)\)$`).FindStringSubmatch(strings.ReplaceAll(query.Query, "$job", ".+"))
		if m == nil {
			t.Fatalf("%s is chosen from %s", v.Name, query.Query)
		}
		var values []string
		if err := p.api("label/"+m[2]+"/values", url.Values{"match[]": {m[1]}}, &values); err != nil || len(values) == 0 {
			t.Errorf("%s is chosen from %q, %v", v.Name, values, err)
		}
	}
	// The rules have been run, and are well.
	type rule struct{ Name, Health, LastError, Type string }
	var rules struct {
		Groups []struct{ Rules []rule }
	}
	if err := p.api("rules", nil, &rules); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if n++; r.Health != "ok" {
				t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
			}
			if r.Type == "recording" {
				find("recorded", r.Name)
			}
		}
	}
	if want := strings.Count(read(t, rulesFile), "\n        expr: "); n != want {
		t.Errorf("%d rules were run, not %d", n, want)
	}
	// The server has just started, which an alert tells in words.
	var firing struct {
		Alerts []struct{ Labels, Annotations map[string]string }
	}
	if err := p.api("alerts", nil, &firing); err != nil {
		t.Fatal(err)
	}
	told := false
	for _, a := range firing.Alerts {
		told = told || a.Labels["alertname"] == "LockdRestarted" && regexp.MustCompile(`^lockd at 127\.0\.0\.1:\d+ has started [\d.]+m?s? ?.*ago$`).MatchString(a.Annotations["summary"])
	}
	if !told {
		t.Errorf("nobody is told that it has started: %v", firing.Alerts)
	}
}
