package main_test

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/tlstest"
	"github.com/nylen/lockd/pkg/server"
)

const goodToken = "lockd-5up3r-53cr37"

// secured is a server within TLS, which wants client certificates of its authority's.
type secured struct {
	ca       *tlstest.Authority
	tls, wss string // targets
}

func secure(t *testing.T, names ...string) secured {
	t.Helper()
	s, err := server.New(server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Shutdown(t.Context()) })
	ca := tlstest.New(t, "test CA")
	listen := func(serve func(net.Listener) error) string {
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{ca.Server(names...)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
		})
		if err != nil {
			t.Fatal(err)
		}
		go serve(l)
		return l.Addr().String()
	}
	return secured{ca, "tls://" + listen(s.Serve), "wss://" + listen(s.ServeWebSocket) + "/locks"}
}

// tools are all commands that ask a server, with the exit code of each.
var tools = []struct {
	code  int
	stdin string
	args  []string
}{
	{0, "", []string{"ping"}},
	{0, "", []string{"stats", "--json"}},
	{0, "", []string{"who"}},
	{0, "", []string{"dump", "-l"}},
	{0, "", []string{"losses", "x"}},
	{0, "", []string{"top"}},
	{1, "", []string{"inspect", "x"}},
	{1, "", []string{"kick", "--yes", "127.0.0.1:1"}},
	{7, "", []string{"run", "x", "--", "sh", "-c", "exit 7"}},
	{0, "g x\nd\n", []string{"shell"}},
	{0, "", []string{"bench", "-c", "2", "-n", "100", "--warmup", "0", "--json"}},
	{0, "", []string{"bench", "-c", "2", "-n", "100", "--warmup", "0", "--json", "--mix", "shared", "-P", "8"}},
}

// tool runs a command with variables and flags.
func tool(t *testing.T, env []string, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestToolsTLS: all commands speak TLS, by flags and by variables.
func TestToolsTLS(t *testing.T) {
	t.Parallel()
	s := secure(t, "127.0.0.1", "lock.example")
	cert, key := s.ca.Files(s.ca.Client("me"))
	flags := []string{"--tls-ca", s.ca.File(), "--tls-cert", cert, "--tls-key", key, "--tls-server-name", "lock.example"}
	variables := []string{"LOCKD_TLS_CA=" + s.ca.File(), "LOCKD_CLIENT_CERT=" + cert, "LOCKD_CLIENT_KEY=" + key}
	for _, target := range []string{s.tls, s.wss} {
		for _, test := range tools {
			args := append(append([]string{test.args[0], "-s", target}, flags...), test.args[1:]...)
			if code, out, errs := tool(t, nil, test.stdin, args...); code != test.code {
				t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, out, errs)
			}
			if code, out, errs := tool(t, append(variables, "LOCKD_SERVER="+target), test.stdin, test.args...); code != test.code {
				t.Errorf("%q by variables: exit code %d, stdout %q, stderr %q", test.args, code, out, errs)
			}
		}
	}
}

// TestToolsTLSFail: what is wrong is said in one line, with the flags that help.
func TestToolsTLSFail(t *testing.T) {
	t.Parallel()
	s := secure(t, "lock.example")
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	plain := d.addr("tcp")
	ca, other := s.ca.File(), tlstest.New(t, "other CA")
	cert, key := s.ca.Files(s.ca.Client("me"))
	otherCert, otherKey := other.Files(other.Client("me"))
	trust := []string{"--tls-ca", ca, "--tls-server-name", "lock.example"}
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{69, "cannot reach " + s.tls + `: the server's certificate is from an authority that is not trusted here, "CN=test CA": name its CA (--tls-ca)`, []string{"-s", s.tls, "--tls-server-name", "lock.example"}},
		{69, "cannot reach " + s.wss + `: the server's certificate is from an authority that is not trusted here, "CN=test CA": name its CA (--tls-ca)`, []string{"-s", s.wss, "--tls-server-name", "lock.example"}},
		{69, "cannot reach " + s.tls + ": the server's certificate is for lock.example, not for 127.0.0.1 (--tls-server-name)", []string{"-s", s.tls, "--tls-ca", ca}},
		{69, "cannot reach " + s.tls + ": the server wants a client certificate (--tls-cert, --tls-key)", append([]string{"-s", s.tls}, trust...)},
		{69, "cannot reach " + s.wss + ": the server wants a client certificate (--tls-cert, --tls-key)", append([]string{"-s", s.wss}, trust...)},
		{69, "cannot reach " + s.tls + ": the server does not know the authority that has issued the client certificate", append([]string{"-s", s.tls, "--tls-cert", otherCert, "--tls-key", otherKey}, trust...)},
		{2, "--server \"tcp://127.0.0.1:9999\": --tls-ca and --tls-server-name need tls:// or wss:// (see lockd COMMAND --help)", []string{"--tls-ca", ca}},
		{2, "--server \"" + plain + "\": --tls-ca and --tls-server-name need tls:// or wss:// (see lockd COMMAND --help)", append([]string{"-s", plain}, trust...)},
		{2, "--tls-ca: open /nonexistent: no such file or directory (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-ca", "/nonexistent"}},
		{2, "--tls-ca: there is no certificate in " + key + " (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-ca", key}},
		{2, "--tls-cert needs --tls-key, too (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-cert", cert}},
		{2, "--tls-key needs --tls-cert, too (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-key", key}},
		{2, "client certificate " + cert + " with key " + otherKey + ": private key does not match public key (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-cert", cert, "--tls-key", otherKey}},
		{2, "--tls-ca: must not be empty (see lockd COMMAND --help)", []string{"-s", s.tls, "--tls-ca", ""}},
		{2, "--server: \"tls://localhost\": want HOST:PORT (see lockd COMMAND --help)", []string{"-s", "tls://localhost"}},
	} {
		for _, command := range [][]string{{"inspect", "x"}, {"shell"}, {"bench", "-n", "1", "-c", "1"}, {"run", "x", "true"}} {
			args := append(append([]string{command[0]}, test.args...), command[1:]...)
			code, out, errs := tool(t, nil, "i some lock\n", args...)
			want := "lockd: " + strings.ReplaceAll(test.want, "COMMAND", command[0]) + "\n"
			if code != test.code || out != "" || errs != want {
				t.Errorf("%q: exit code %d, want %d; stdout %q, stderr\n%swant\n%s", args, code, test.code, out, errs, want)
			}
		}
	}
	// The server's own files are not the client's, though a flag of the same name says
	// so to both: a probe beside the server has its environment.
	theirs := []string{"LOCKD_TLS_CERT=/nonexistent", "LOCKD_TLS_KEY=/nonexistent"}
	if code, _, errs := tool(t, theirs, "", "ping", "-s", s.tls, "--tls-server-name", "lock.example", "--tls-ca", s.ca.File(), "--tls-cert", cert, "--tls-key", key); code != 0 || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	if code, _, errs := tool(t, theirs, "", "ping", "-s", s.tls, "--tls-ca", s.ca.File()); strings.Contains(errs, "nonexistent") {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
	// A certificate means nothing without TLS: it may be there for another server.
	if code, _, errs := tool(t, []string{"LOCKD_CLIENT_CERT=/nonexistent"}, "", "ping", "-s", plain); code != 0 || errs != "" {
		t.Errorf("exit code %d, stderr %q", code, errs)
	}
}

// guarded is a server that knows whoever shows the good token.
func guarded(t *testing.T) (target string) {
	t.Helper()
	who := tokenFile(t, fmt.Sprintf("me admin sha256:%x\n", sha256.Sum256([]byte(goodToken))), 0o600)
	d := start(t, nil, "-t", anyPort, "--admin", "off", "--auth-file", who)
	return "tcp://" + d.addr("tcp")
}

// tokenFile writes one.
func tokenFile(t *testing.T, text string, mode os.FileMode) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestToolsToken: all commands present the token of the file, by flag and by variable;
// and no output has it, whatever comes of that.
func TestToolsToken(t *testing.T) {
	t.Parallel()
	target := guarded(t)
	good, wrong := tokenFile(t, goodToken+"\n", 0o600), tokenFile(t, "wr0ng", 0o600)
	for _, test := range tools {
		is := func(want int, said string, env []string, flags ...string) {
			t.Helper()
			args := append(append([]string{test.args[0], "-s", target}, flags...), test.args[1:]...)
			code, out, errs := tool(t, env, test.stdin, args...)
			if code != want || said != "" && (errs != "lockd: "+said+"\n" || out != "") {
				t.Errorf("%q: exit code %d, want %d, stdout %q, stderr %q, want %q", args, code, want, out, errs, said)
			}
			if both := out + errs; strings.Contains(both, goodToken) || strings.Contains(both, "wr0ng") {
				t.Errorf("%q tells the token: %q", args, both)
			}
		}
		is(test.code, "", nil, "--token-file", good)
		is(test.code, "", []string{"LOCKD_TOKEN_FILE=" + good})
		is(69, target+": the server does not know the token of --token-file", nil, "--token-file", wrong)
		usage := " (see lockd " + test.args[0] + " --help)"
		is(2, "--token-file: stat /nonexistent: no such file or directory"+usage, nil, "--token-file", "/nonexistent")
		is(2, "--token-file: "+filepath.Dir(good)+" is a directory"+usage, nil, "--token-file", filepath.Dir(good))
	}
	for _, args := range [][]string{{"run", "x", "true"}, {"inspect", "x"}, {"dump"}, {"losses"}, {"top"}, {"kick", "--yes", "x"}, {"stats"}, {"who"}} {
		args = append([]string{args[0], "-s", target}, args[1:]...)
		code, out, errs := tool(t, nil, "", args...)
		want := "lockd: " + target + ": the server asks for a token (--token-file), or for a certificate that it knows (--tls-cert)\n"
		if code != 69 || out != "" || errs != want {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", args, code, out, errs)
		}
	}
	// A probe of the server's health has no token, and the server is there.
	if code, out, errs := tool(t, nil, "", "ping", "-s", target); code != 0 || errs != "" ||
		!strings.HasPrefix(out, target+" replied in ") || !strings.HasSuffix(out, ", and asks for a token (--token-file)\n") {
		t.Errorf("ping: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
	if code, out, errs := tool(t, nil, "", "ping", "-s", target, "--json"); code != 0 || errs != "" || !strings.Contains(out, `"addr": ""`) && !strings.Contains(out, `"addr":""`) {
		t.Errorf("ping: exit code %d, stdout %q, stderr %q", code, out, errs)
	}
}

// TestTokenFileMode: a secret that everybody can read is told of, and used all the
// same; that of a group is how services share one.
func TestTokenFileMode(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	target := guarded(t)
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: false, 0o644: true, 0o604: true} {
		path := tokenFile(t, goodToken+"\n", mode)
		code, _, errs := tool(t, nil, "", "ping", "-s", target, "--token-file", path)
		want := ""
		if warns {
			want = "lockd: every user of this machine can read " + path + ": chmod o-r it\n"
		}
		if code != 0 || errs != want {
			t.Errorf("%o: exit code %d, stderr %q, want %q", mode, code, errs, want)
		}
	}
}

// TestRunHidesSecrets: the command sees neither where they are nor an open file with
// one.
func TestRunHidesSecrets(t *testing.T) {
	t.Parallel()
	s := secure(t, "127.0.0.1")
	cert, key := s.ca.Files(s.ca.Client("me"))
	path := tokenFile(t, goodToken+"\n", 0o600)
	env := []string{
		"LOCKD_SERVER=" + s.tls, "LOCKD_TOKEN_FILE=" + path, "LOCKD_TLS_CA=" + s.ca.File(), "LOCKD_CLIENT_CERT=" + cert, "LOCKD_CLIENT_KEY=" + key,
		"LOCKD_TOKEN=0", "LOCKD_NAME=outer",
	}
	code, out, errs := tool(t, env, "", "run", "inner", "--", "env")
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d, stderr %q", code, errs)
	}
	seen := make(map[string]string)
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		seen[name] = value
	}
	for _, name := range []string{"LOCKD_TOKEN_FILE", "LOCKD_CLIENT_CERT", "LOCKD_CLIENT_KEY"} {
		if value, ok := seen[name]; ok {
			t.Errorf("the command sees %s=%s", name, value)
		}
	}
	if seen["LOCKD_NAME"] != "inner" || len(seen["LOCKD_TOKEN"]) < 10 || seen["LOCKD_SERVER"] != s.tls || seen["LOCKD_TLS_CA"] == "" {
		t.Errorf("the command sees %v", seen)
	}
	if strings.Contains(out, goodToken) {
		t.Errorf("the command sees the token: %s", out)
	}

	if runtime.GOOS != "linux" {
		return
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command(binary, "run", "inner", "--token-file", "/dev/fd/3", "--", "sh", "-c", "ls -l /proc/$$/fd")
	cmd.Env = append(os.Environ(), env...)
	cmd.ExtraFiles = []*os.File{file}
	list, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(list), " 2 -> ") || strings.Contains(string(list), path) || strings.Contains(string(list), "socket:") {
		t.Errorf("%v, open in the command:\n%s", err, list)
	}
}

// TestTokenFromPipe: a token may come from a command, as <(COMMAND) has it, which is
// read once and used for each connection.
func TestTokenFromPipe(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is not installed")
	}
	target := guarded(t)
	for _, command := range []string{"ping", "bench -c 3 -n 30 --warmup 0", "run x true", "inspect x || test $? = 1"} {
		script := fmt.Sprintf("%s %s -s %s --token-file <(echo %s)", binary, command, target, goodToken)
		if verb, rest, ok := strings.Cut(command, " "); ok {
			script = fmt.Sprintf("%s %s -s %s --token-file <(echo %s) %s", binary, verb, target, goodToken, rest)
		}
		if out, err := exec.Command(bash, "-c", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
	}
}
