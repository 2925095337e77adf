package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with the command line is said in its words, before etcd is asked.
// test/cluster has the rest, with an etcd.
func TestClusterFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	empty, secret := file("empty", "\n"), file("secret", "s\n")
	const url = "etcd://127.0.0.1:1/c"
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"status"}, 2, "missing flags: --cluster=URL"},
		{[]string{"status", "--cluster", "http://a:1"}, 2, "--cluster: \"http://a:1\" is no etcd's URL: want etcd://HOST:PORT"},
		{[]string{"status", "--cluster", "etcd://a"}, 2, "--cluster: \"a\" is no HOST:PORT"},
		{[]string{"status", "--cluster", "etcd://a:1,b/c"}, 2, "--cluster: \"b\" is no HOST:PORT"},
		{[]string{"status", "--cluster", "etcd://u:p@a:1"}, 2, "a user goes elsewhere"},
		{[]string{"status", "--cluster", url, "--cluster-user", "u"}, 2, "--cluster-user needs --cluster-password-file, too"},
		{[]string{"status", "--cluster", url, "--cluster-password-file", secret}, 2, "--cluster-password-file needs --cluster-user, too"},
		{[]string{"status", "--cluster", url, "--cluster-user", "u", "--cluster-password-file", empty}, 2, "--cluster-password-file: " + empty + " has not one line"},
		{[]string{"status", "--cluster", url, "--cluster-user", "u", "--cluster-password-file", secret + "x"}, 2, "--cluster-password-file: open"},
		{[]string{"status", "--cluster", url, "--cluster-key", secret}, 2, "--cluster-key needs --cluster-cert, too"},
		{[]string{"status", "--cluster", url, "--cluster-cert", secret}, 2, "--cluster-cert needs --cluster-key, too"},
		{[]string{"status", "--cluster", url, "--cluster-ca", secret}, 2, "--cluster-ca: " + secret + " has no certificate"},
		{[]string{"status", "--cluster", url, "--cluster-server-name", "a"}, 2, "--cluster-server-name is of use with TLS only: want etcds:// or --cluster-ca"},
		{[]string{"init", "--cluster", url, "--node-timeout", "30s"}, 2, "(G) is 25s, and a node serves for 30s"},
		{[]string{"init", "--cluster", url, "--node-timeout", "100ms"}, 2, "(W) is 100ms: want 500ms to 5m0s"},
		{[]string{"map", "--cluster", url, "a\nb"}, 2, "is no lock's name"},
		{[]string{"rebalance", "--cluster", url, "maybe"}, 2, "must be one of"},
		{[]string{"drain", "--cluster", url}, 2, "<node>"},
		{[]string{"status", "--cluster", url, "--timeout", "500ms"}, 69, url + ": no answer within 500ms (127.0.0.1:1: connection refused)"},
	} {
		code, out, errs := run(append([]string{"cluster"}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d, %q, %q; want %q", c.args, code, out, errs, c.want)
		}
	}
}
