package conn

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// connectFromChild makes this program, run again, a client.
const connectFromChild = "LOCKD_TEST_CONNECT"

func init() {
	path := os.Getenv(connectFromChild)
	if path == "" {
		return
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	io.WriteString(c, "hello 2\n7 g a\n")
	lines := bufio.NewScanner(c)
	for lines.Scan() && !strings.Contains(lines.Text(), "Lock Get") {
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// Who has connected to a unix socket is known, whoever accepted the connection,
// to the log and to all sessions.
func TestProcessOfUnixSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no credentials here, or not all of them")
	}
	for _, loops := range []bool{true, false} {
		cfg := testConfig()
		log := logTo(&cfg)
		path, end := serveUnix(t, NewServer(cfg), loops)

		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), connectFromChild+"="+path)
		child.Stderr = os.Stderr
		stdin, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		comm := filepath.Base(os.Args[0])
		comm = comm[:min(15, len(comm))]
		type entry struct {
			Msg, Client, Program string
			PID                  int
			UID                  *int
		}
		check := func(line string) {
			t.Helper()
			var e entry
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(e.Client, "unix:") || e.PID != child.Process.Pid || e.UID == nil || *e.UID != os.Getuid() || e.Program != comm {
				t.Errorf("%s, want number %d, user %d, program %s", line, child.Process.Pid, os.Getuid(), comm)
			}
		}
		check(log.await(t, `"msg":"connected"`, 1)[0])
		stdin.Close()
		child.Wait()
		check(log.await(t, `"msg":"disconnected"`, 1)[0]) // though it is gone
		end()
	}
}

// TCP has none, and its log lines do not speak of it.
func TestNoProcessOfTCP(t *testing.T) {
	cfg := testConfig()
	log := logTo(&cfg)
	h := NewServer(cfg)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := NewOwnListener(inner, cfg.Logger)
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	c, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if line := log.await(t, `"msg":"connected"`, 1)[0]; strings.Contains(line, `"pid"`) || strings.Contains(line, `"uid"`) {
		t.Error(line)
	}
	l.Close()
	<-served
	drainNow(h)
}

// A number that is another process's by now does not lend its program.
func TestProcessOfAnotherAge(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("no names of programs here")
	}
	me := newProcess(int32(os.Getpid()), uint32(os.Getuid()))
	if got := string(session.AppendProcess(nil, me)); !bytes.HasPrefix([]byte(got), fmt.Appendf(nil, "pid=%d uid=%d program=", os.Getpid(), os.Getuid())) {
		t.Errorf("this process: %s", got)
	}
	before := newProcess(int32(os.Getpid()), 7)
	before.made -= 1000 * time.Hour
	if got := string(session.AppendProcess(nil, before)); got != fmt.Sprintf("pid=%d uid=7", os.Getpid()) {
		t.Errorf("one that has had its number before: %s", got)
	}
	child := exec.Command("true")
	if err := child.Run(); err != nil {
		t.Skip(err)
	}
	gone := newProcess(int32(child.Process.Pid), 7)
	if got := string(session.AppendProcess(nil, gone)); got != fmt.Sprintf("pid=%d uid=7", child.Process.Pid) {
		t.Errorf("one that is gone: %s", got)
	}
	if got := string(session.AppendProcess(nil, newProcess(-1, 7))); got != "uid=7" {
		t.Errorf("one that cannot be seen: %s", got)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"backup":             "backup",
		"my job (2)":         "my job (2)",
		"a\tb\nc\x1b[1m\xff": "a?b?c?[1m?",
		"größe":              "größe",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
