package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// program builds lockd.
func program(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "lockd.exe")
	build := exec.Command("go", "build", "-pgo=off", "-o", binary, "./cmd/lockd")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// TestCommands: what lockd cluster says and does, from before the cluster is there.
func TestCommands(t *testing.T) {
	t.Parallel()
	binary := program(t)
	e := newEnsemble(t, 1, nil)
	run := func(args ...string) (code int, stdout, stderr string) {
		t.Helper()
		cmd := exec.Command(binary, append([]string{"cluster"}, args...)...)
		cmd.Env = append(os.Environ(), "LOCKD_CLUSTER="+e.url("/c"))
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	says := func(code int, want string, args ...string) string {
		t.Helper()
		got, out, errs := run(args...)
		if got != code || !regexp.MustCompile(want).MatchString(out+errs) || (code == 0) != (errs == "") {
			t.Errorf("%q: %d, %q, %q; want %d, %q", args, got, out, errs, code, want)
		}
		return out
	}
	for _, args := range [][]string{{"status"}, {"map"}, {"map", "x"}, {"drain", "a"}, {"rebalance", "on"}} {
		says(1, `^lockd: there is no cluster at etcd://.*/c: lockd cluster init makes one, if the URL is right\n$`, args...)
	}
	says(0, `^cluster [0-9a-f]{16} is made: W 1.5s, G 25s\n$`, "init", "--node-timeout", "1500ms")
	says(1, `/c has a cluster already: [0-9a-f]{16}, W 1.5s, G 25s, 0 nodes. Nothing was changed\n$`, "init")
	s := open(t, etcd.Config{URL: e.url("/c")})
	if code, out, errs := run("status"); code != 1 || errs != "" || !strings.Contains(out, "there is no node: start lockd with --cluster") || !strings.Contains(out, "1024 partitions have no owner yet") {
		t.Errorf("status of nothing: %d, %q, %q", code, out, errs)
	}
	says(0, `^NODE +ID +COUNT +PARTITIONS\n\(nobody\) +- +1024 +0-1023\n$`, "map")
	says(0, `^x is in partition \d+, which nobody owns yet\n$`, "map", "x")

	a, b := e.member(t, "a"), e.member(t, "b")
	eventually(t, "even", even(t, s, a, b))
	eventually(t, "well", func() bool { code, _, _ := run("status"); return code == 0 })
	says(0, `^NAME +ID +ADDR +VERSION +PARTITIONS +STATE +WANT +SILENT\na +[0-9a-f]{16} +a:1 +"" +512 +serving +own +\d\.\ds\nb .*\ncluster [0-9a-f]{16}: W 1.5s, G 25s, map \d+, rebalance on\nfencing tokens: up to \d{16} may have been granted \(.*\)\n$`, "status")
	says(0, `^x is in partition \d+, which [ab] owns \([ab]:1, ID [0-9a-f]{16}\)\n$`, "map", "x")
	var same [2]string
	for i, name := range []string{"a b", "a  b"} { // one lock
		same[i] = says(0, `^\{"partition":\d+,"epoch":1,"name":"[ab]","id":"[0-9a-f]{16}","addr":"[ab]:1"\}\n$`, "map", "--json", name)
	}
	if same[0] != same[1] {
		t.Errorf("%q", same)
	}

	if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil { // Linux
		defer full.Close()
		for _, command := range []string{"status", "map"} {
			cmd := exec.Command(binary, "cluster", command, "--cluster", e.url("/c"))
			cmd.Stdout = full
			if cmd.Run(); cmd.ProcessState.ExitCode() != 74 {
				t.Errorf("%s on a full disk: %v", command, cmd.ProcessState)
			}
		}
	}

	says(1, `there is no node c: lockd cluster status has their names\n$`, "drain", "c")
	says(1, `a is not drained: no node is\n$`, "drain", "a", "--undo")
	says(0, `^a is drained: 512 partitions to be moved\n$`, "drain", "a")
	says(1, `b cannot be drained: there is no other node that could take over\n$`, "drain", "b")
	eventually(t, "drained", func() bool { return a.host.Status().Serving == 0 && b.host.Status().Serving == 1024 })
	eventually(t, "idle", func() bool {
		_, out, _ := run("status", "--json")
		var d struct {
			Drains []string
			Nodes  []struct {
				Name, State, Want string
				Partitions        int
			}
			Problems []string
		}
		if err := json.Unmarshal([]byte(out), &d); err != nil || len(d.Nodes) != 2 || len(d.Drains) != 1 {
			t.Fatalf("%v, %q", err, out)
		}
		return d.Nodes[0].State == "idle" && d.Nodes[0].Want == "drain" && len(d.Problems) == 0
	})
	says(0, `^rebalance is off: 0 partitions to be moved\n$`, "rebalance", "off")
	says(0, `^a may own partitions again\n$`, "drain", "a", "--undo")
	time.Sleep(w)
	if n := a.host.Status().Serving; n > 0 {
		t.Errorf("%d partitions were moved, though nothing shall be evened out", n)
	}
	says(0, `^rebalance is on: 512 partitions to be moved\n$`, "rebalance", "on")
	eventually(t, "even", even(t, s, a, b))
	b.kill()
	eventually(t, "silent", func() bool { _, out, _ := run("status"); return strings.Contains(out, "\nb is silent: ") })
}

// TestSecured: by certificates, and a user with a password, and by wrong ones, as commands
// and as a node. What is wrong is said in one line, with what to do, and never the password.
func TestSecured(t *testing.T) {
	t.Parallel()
	binary := program(t)
	ours, others := newPapers(t), newPapers(t)
	e := newEnsemble(t, 1, func(c *embed.Config) { c.ClientTLSInfo = ours.info })
	trust := ours.info
	trust.CertFile, trust.KeyFile = ours.path("client.pem"), ours.path("client-key.pem")
	config, err := trust.ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: e.hosts, TLS: config, Logger: zap.NewNop(), DialTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	enableAuth(t, client)
	right, wrong := ours.file("right", []byte("secret\n")), ours.file("wrong", []byte("hidden\n"))

	tls := []string{"--cluster-ca", ours.ca, "--cluster-cert", ours.path("client.pem"), "--cluster-key", ours.path("client-key.pem")}
	user := []string{"--cluster-user", "lockd", "--cluster-password-file"}
	run := func(args ...string) (code int, text string) {
		t.Helper()
		cmd := exec.Command(binary, args...)
		out, err := cmd.CombinedOutput()
		if err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		if bytes.Contains(out, []byte("secret")) || bytes.Contains(out, []byte("hidden")) {
			t.Errorf("%q tells a secret: %s", args, out)
		}
		return cmd.ProcessState.ExitCode(), string(out)
	}
	url := e.url("/c")
	with := func(url string, more ...[]string) []string {
		return slices.Concat(append([][]string{{"--cluster", url}}, more...)...)
	}
	good := with(url, tls, user, []string{right})
	if code, text := run(append([]string{"cluster", "init", "--node-timeout", "1500ms"}, good...)...); code != 0 {
		t.Fatalf("%d, %s", code, text)
	}
	closed := freePort(t)
	var all sync.WaitGroup
	for name, c := range map[string]struct {
		flags []string
		code  int
		want  string
	}{
		"no TLS":            {with(url, user, []string{right}), 69, " speaks TLS: want etcds:// or --cluster-ca"},
		"another CA":        {with(url, []string{"--cluster-ca", others.ca}, tls[2:], user, []string{right}), 69, "not trusted here: look at --cluster-ca"},
		"no certificate":    {with(url, tls[:2], user, []string{right}), 69, " asks for a client's certificate: --cluster-cert and --cluster-key"},
		"another's":         {with(url, tls[:2], []string{"--cluster-cert", others.path("client.pem"), "--cluster-key", others.path("client-key.pem")}), 69, " refuses --cluster-cert: is it by an authority that etcd trusts?"},
		"another name":      {with(url, tls, user, []string{right, "--cluster-server-name", "a.example"}), 69, "--cluster-server-name is for the name that is in it"},
		"no user":           {with(url, tls), 69, "etcd takes the name in the client's certificate for the user, and does not let that one read and write /c/"},
		"a wrong password":  {with(url, tls, user, []string{wrong}), 69, "etcd does not know this user with this password: look at --cluster-user and --cluster-password-file"},
		"a wrong path":      {with(e.url("/d"), tls, user, []string{right}), 69, "etcd does not let this user read and write /d/: give its role the permission, if path and user are right"},
		"a path with none":  {with(e.url("/c/d"), tls, user, []string{right}), 1, "there is no cluster at " + e.url("/c/d") + ": lockd cluster init makes one, if the URL is right"},
		"nobody there":      {with("etcd://"+closed+"/c", tls, user, []string{right}), 69, closed + ": connection refused"},
		"no password there": {with(url, tls, user, []string{right + "x"}), 2, "--cluster-password-file: open "},
	} {
		all.Go(func() {
			node := []string{"--node", "a", "--tcp", "127.0.0.1:0", "--advertise", "127.0.0.1:9", "--admin", "off"}
			for _, args := range [][]string{append([]string{"cluster", "status"}, c.flags...), append(node, c.flags...)} {
				code, text := run(args...)
				if code != c.code || !strings.Contains(text, c.want) || strings.Count(text, "\n") != 1 {
					t.Errorf("%s, %q: %d, %q; want %d, %q", name, args, code, text, c.code, c.want)
				}
			}
		})
	}
	all.Wait()

	cmd := exec.Command(binary, append([]string{"--node", "a", "--tcp", "127.0.0.1:0", "--advertise", "127.0.0.1:9", "--admin", "off"}, good...)...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "well", func() bool {
		code, _ := run(append([]string{"cluster", "status"}, good...)...)
		return code == 0
	})
	if code, text := run(append([]string{"cluster", "map", "x"}, good...)...); code != 0 || !strings.Contains(text, "which a owns") {
		t.Errorf("%d, %q", code, text)
	}
	if code, text := run(append([]string{"cluster", "drain", "a"}, good...)...); code != 1 || !strings.Contains(text, "there is no other node") {
		t.Errorf("%d, %q", code, text)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log has the password: %s", log.String())
	}
}
