package docs_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A keepingServer is a server whose log is read line by line, and that may be killed.
type keepingServer struct {
	cmd  *exec.Cmd
	log  *bufio.Reader
	said []string
	addr string
}

func startKeeping(t *testing.T, lockd, file string) *keepingServer {
	t.Helper()
	s := &keepingServer{cmd: exec.Command(lockd, "serve", "--tcp", "127.0.0.1:0", "--admin", "off", "--state", file)}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	s.log = bufio.NewReader(stderr)
	s.addr = regexp.MustCompile(`tcp=(\S+)`).FindStringSubmatch(s.until(t, "msg=listening"))[1]
	return s
}

// until reads the log up to a line with that text.
func (s *keepingServer) until(t *testing.T, text string) string {
	t.Helper()
	late := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	for {
		line, err := s.log.ReadString('\n')
		if err != nil {
			t.Fatalf("the log ends without %q: %q", text, s.said)
		}
		s.said = append(s.said, line)
		if strings.Contains(line, text) {
			return line
		}
	}
}

func (s *keepingServer) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// A keptClient says requests of protocol 2, one after another.
type keptClient struct {
	net.Conn
	replies *bufio.Reader
}

func (s *keepingServer) dial(t *testing.T) *keptClient {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	k := &keptClient{c, bufio.NewReader(c)}
	k.say(t, "hello 2", "2 lockd ")
	return k
}

// say returns what comes behind the beginning of the reply that is wanted.
func (c *keptClient) say(t *testing.T, request, want string) string {
	t.Helper()
	io.WriteString(c, request+"\n")
	reply, err := c.replies.ReadString('\n')
	if err != nil || !strings.HasPrefix(reply, want) {
		t.Fatalf("%s: %q, %v; want %q", request, reply, err, want)
	}
	return strings.TrimSuffix(reply[len(want):], "\n")
}

// What a restart looks like to who watches over it is what the documents show.
func TestRecoveryIsShown(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("how a start of the machine is called differs")
	}
	lockd := program(t, "./cmd/lockd")
	file := filepath.Join(t.TempDir(), "state")
	if out, err := exec.Command(lockd, "state", "new", file).CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	first := startKeeping(t, lockd, file)
	kept := first.dial(t)
	key := kept.say(t, "0 keep 26316", "0 26316 Kept: ")
	token, _, _ := strings.Cut(kept.say(t, "1 g nightly", "1 "), " ")
	var others []*keptClient
	for _, ms := range []int{10000, 30000} {
		c := first.dial(t)
		c.say(t, fmt.Sprint("0 keep ", ms), fmt.Sprintf("0 %d Kept: ", ms))
		others = append(others, c)
	}

	shown := regexp.MustCompile("(?ms)^```\n\\$ lockd state show \\S+\n(.*?)^```$").FindStringSubmatch(read(t, "docs/surviving.md"))
	out, err := exec.Command(lockd, "state", "show", file).CombinedOutput()
	if shown == nil || err != nil {
		t.Fatalf("the document shows %q, lockd says %s, %v", shown, out, err)
	}
	same := func(text string) string {
		text = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`).ReplaceAllString(text, "BOOT")
		return shape(regexp.MustCompile(`\([-\d]+ [:\d]+\)`).ReplaceAllString(text, "(WHEN)"))
	}
	if same(string(out)) != same(shown[1]) {
		t.Errorf("lockd state show says\n%s\nand in the document\n%s", out, shown[1])
	}

	for _, c := range others {
		c.say(t, "0 bye", "0 1 bye")
	}
	for until := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) { // that is written a moment later
		if out, _ := exec.Command(lockd, "state", "show", file).Output(); strings.Contains(string(out), "clients          1,") {
			break
		} else if time.Now().After(until) {
			t.Fatalf("two clients have said bye, and are in the file still: %s", out)
		}
	}
	first.kill()
	second := startKeeping(t, lockd, file)
	plain := second.dial(t)
	plain.say(t, "0 g other", "0 0 Server Recovering: other")
	kept = second.dial(t)
	kept.say(t, "0 resume "+key, "0 0 Claims Open ")
	kept.say(t, "1 claim "+token+" nightly", "1 "+token+" Lock Claim Success: nightly")
	kept.say(t, "0 claimed", "0 1 ok")
	second.until(t, "msg=\"recovered")
	plain.say(t, "0 g other", "0 1")
	plain.say(t, "0 g nightly", "0 0 Lock Get Failure: nightly")

	m := regexp.MustCompile("(?ms)^<!-- recovery -->\n```\n(.*?)^```$").FindStringSubmatch(read(t, "docs/operations.md"))
	if m == nil {
		t.Fatal("docs/operations.md shows no recovery")
	}
	if log := strings.Join(second.said, ""); shape(log) != shape(m[1]) {
		t.Errorf("the log says\n%s\nand in the document\n%s", log, m[1])
	}
}
