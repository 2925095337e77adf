package main_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dialTLS connects with the certificates of a folder that `lockd cert` has filled.
func dialTLS(t *testing.T, addr, dir, name string) *client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return &client{t, c, bufio.NewReader(c)}
}

// What `lockd cert` prints works: the server's command line starts a server, which
// lets in the client that it made, and another one that it makes later.
func TestCert(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "its certs")
	code, out, stderr := run("cert", dir)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, %q", code, stderr)
	}
	for _, name := range []string{"ca", "server", "client"} {
		for suffix, mode := range map[string]os.FileMode{".pem": 0o644, "-key.pem": 0o600} {
			info, err := os.Stat(filepath.Join(dir, name+suffix))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got&^mode != 0 && runtime.GOOS != "windows" {
				t.Errorf("%s%s has the mode %o", name, suffix, got)
			}
		}
	}
	var args []string
	for line := range strings.Lines(out) {
		if rest, ok := strings.CutPrefix(line, "  lockd --tls 9996 "); ok {
			rest = strings.ReplaceAll(strings.TrimSpace(rest), "'", "") // of a folder with a blank
			args = strings.Split(strings.ReplaceAll(rest, " --", "\x00--"), "\x00")
		}
	}
	if len(args) != 3 {
		t.Fatalf("no command line in %q", out)
	}
	for i, arg := range args {
		args[i] = strings.Replace(arg, " ", "=", 1)
	}
	d := start(t, nil, append(args, "--tls", "127.0.0.1:0", "--wss", "127.0.0.1:0", "--admin", "off")...)
	if strings.Contains(d.start, " tcp=") {
		t.Errorf("it listens without TLS, too: %s", d.start)
	}
	dialTLS(t, d.addr("tls"), dir, "client").ask("g foo", "1 Lock Get Success: foo")
	d.addr("wss")

	if code, out, stderr := run("cert", dir, "--client", "web1"); code != 0 || !strings.Contains(out, "web1-key.pem") {
		t.Fatalf("another client: exit code %d, %q, %q", code, out, stderr)
	}
	dialTLS(t, d.addr("tls"), dir, "web1").ask("g foo", "0 Lock Get Failure: foo")
	if code, log := d.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
}

// Nothing is overwritten, and what is wrong is said in a line.
func TestCertFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if code, _, stderr := run("cert", dir, "--host", "locks.example.com,10.1.2.3"); code != 0 {
		t.Fatal(stderr)
	}
	broken := t.TempDir()
	for _, name := range []string{"ca.pem", "ca-key.pem"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte("nothing"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	content := func() (all string) {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			all += f + string(b)
		}
		return all
	}
	before := content()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{1, "client.pem is there already: name another client", []string{dir}},
		{1, "server.pem is there already: remove it", []string{dir, "--client", "b", "--host", "x"}},
		{2, "want letters, digits", []string{dir, "--client", "../b"}},
		{2, "want letters, digits", []string{dir, "--client", ""}},
		{2, "is not a client's", []string{dir, "--client", "ca"}},
		{2, "at most 64 bytes", []string{dir, "--client", strings.Repeat("x", 65)}},
		{1, "cannot use ", []string{broken}},
		{1, "cannot make the folder", []string{filepath.Join(dir, "ca.pem")}},
	} {
		code, out, stderr := run(append([]string{"cert"}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, %q, %q, which does not speak of %q", c.args, code, out, stderr, c.want)
		}
	}
	if content() != before {
		t.Error("something was changed")
	}
	// What was made before it failed is gone: the next call begins anew.
	half := t.TempDir()
	if err := os.WriteFile(filepath.Join(half, "server-key.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := run("cert", half, "--host", "x"); code == 0 {
		t.Error("a server's key is taken for nothing")
	}
	if left, _ := filepath.Glob(filepath.Join(half, "*")); len(left) != 1 {
		t.Errorf("left: %q", left)
	}
}

// Who needs no certificate, beyond loopback, is warned of; who needs one is not.
func TestWarnsWithoutClientCertificates(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if code, _, stderr := run("cert", dir); code != 0 {
		t.Fatal(stderr)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		warned bool
		args   []string
	}{
		{true, nil},
		{false, []string{"--tls-client-ca", file("ca.pem")}},
	} {
		d := start(t, nil, append(c.args, "--tls", "0", "--tls-cert", file("server.pem"), "--tls-key", file("server-key.pem"), "--admin", "off")...)
		code, log := d.stop(syscall.SIGTERM)
		if warned := strings.Contains(log, "anybody who reaches these addresses can take and release locks"); code != 0 || warned != c.warned {
			t.Errorf("%q: exit code %d, %q", c.args, code, log)
		}
	}
}

// A hangup has the certificate read again, like a change that is noticed.
func TestHangupReadsCertificates(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("no hangups here")
	}
	dir := t.TempDir()
	if code, _, stderr := run("cert", dir); code != 0 {
		t.Fatal(stderr)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	d := start(t, nil, "--tls", "127.0.0.1:0", "--tls-cert", file("server.pem"), "--tls-key", file("server-key.pem"), "--admin", "off")
	c := dialTLS(t, d.addr("tls"), dir, "client")
	c.ask("g foo", "1 Lock Get Success: foo")
	d.cmd.Process.Signal(syscall.SIGHUP)
	d.seek("the files are up to date")
	if err := os.WriteFile(file("server.pem"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(syscall.SIGHUP)
	d.seek("going on with what was read before")
	dialTLS(t, d.addr("tls"), dir, "client").ask("i foo", "1 Lock Is Locked: foo")
	c.ask("r foo", "1 Lock Release Success: foo")
}
