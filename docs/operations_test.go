package docs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An incident of docs/operations.md is played: a server and clients are as it
// tells, its commands are run, and what they print has to look like what the
// document shows, but for addresses, tokens and times.

// incidents are by the marker that the document has before their commands.
var incidents = map[string]struct {
	flags []string
	play  func(t *testing.T, s *incident)
}{
	"stuck holder": {nil, func(t *testing.T, s *incident) {
		s.client(t, "www-data@web3 31164 make", "g deploy")
		s.client(t, "backup@web3 21161 make", "gw 60000 deploy")
		s.client(t, "www-data@web1 902 make", "gw 60000 deploy")
	}},
	"holder gone": {nil, func(t *testing.T, s *incident) {
		s.client(t, "ci@runner7 4021 build.sh", "g build")
	}},
	"queue": {nil, func(t *testing.T, s *incident) {
		s.client(t, "img@web1 700 resize", "sgl 4 resize")
		s.client(t, "img@web2 512 resize", "sgl 4 resize")
		s.client(t, "img@test 99 resize", "sgw 1 60000 resize")
		s.client(t, "img@web3 644 resize", "sgw 4 60000 resize")
		s.client(t, "img@web4 58 resize", "sgw 4 1 resize")
	}},
	"server full": {[]string{"--max-locks", "4", "--max-share", "off"}, func(t *testing.T, s *incident) {
		s.client(t, "import@db1 77 load.py", "g row 1", "g row 2", "g row 3")
		s.client(t, "www-data@web3 31164 make", "g deploy")
		s.client(t, "backup@web3 21161 make", "g backup")
	}},
	"balancer": {nil, func(t *testing.T, s *incident) {
		for _, name := range []string{"etl@job1 310 night.py", "etl@job2 1417 night.py"} {
			s.client(t, name, "g night of "+name[4:8]).Close()
		}
	}},
	"clock": {nil, func(t *testing.T, s *incident) {
		s.client(t, "www-data@web3 31164 make", "g deploy")
	}},
}

// An incident's server.
type incident struct {
	lockd, addr, admin string
}

// client says some requests, of which each has a reply unless it waits, and
// stays.
func (s *incident) client(t *testing.T, name string, requests ...string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	replies := bufio.NewReader(c)
	for _, request := range append([]string{"iam " + name}, requests...) {
		fmt.Fprintln(c, request)
		if strings.Contains(request, " 60000 ") {
			s.waits(t, name)
			break
		}
		if _, err := replies.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// waits returns when a client of that name waits.
func (s *incident) waits(t *testing.T, name string) {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	replies := bufio.NewReader(c)
	for {
		fmt.Fprintln(c, "look*")
		for line := ""; line != "1 End\n"; {
			if line, err = replies.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "\twaits\t") && strings.HasSuffix(line, "\t"+name+"\n") {
				return
			}
		}
	}
}

// shape is what of an output is the same each time.
func shape(text string) string {
	for _, r := range []struct{ what, shape string }{
		{`\b127\.0\.0\.1:\d+(#\d+)?|\b(10|192)(\.\d+){3}:\d+(#\d+)?`, "ADDR"},
		{`\b1\d{15}\b`, "TOKEN"},
		{`\b\d{4}-\d\d-\d\dT[\d:]+Z`, "AT"},
		{`\b\d+\.\d+ ?(ms|us|s)\b|\b(\d+(d|h|m|s|ms|us))+\b`, "TIME"},
		{`\S+/\S+ [#.]{20}`, "BAR"},
		{`\b\d+(\.\d+)?[KMG]\b|\b\d+B\b`, "SIZE"},
		{`time=\S+`, "time=AT"},
		{`pid=\d+`, "pid=PID"},
		{` +`, " "},
	} {
		text = regexp.MustCompile(r.what).ReplaceAllString(text, r.shape)
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "ADDR - - tcp TIME 1 - - SIZE" {
			continue // the command itself, which may be there by an earlier connection, too
		}
		lines = append(lines, line)
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

var address = regexp.MustCompile(`\b\d+(?:\.\d+){3}:\d+(?:#\d+)?`)

// run runs the commands of lockd in a block, and compares what they print with
// what stands there. addrs are the addresses here by those in the document, and
// those of what is printed come to them.
func (s *incident) run(t *testing.T, block string, addrs map[string]string) {
	t.Helper()
	for _, part := range strings.Split("\n"+block, "\n$ ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		if !strings.HasPrefix(command, "lockd ") {
			continue // another program's
		}
		here := address.ReplaceAllStringFunc(command, func(a string) string {
			if addrs[a] == "" {
				t.Errorf("%s is in no output before `%s`", a, command)
			}
			return addrs[a]
		})
		cmd := exec.CommandContext(t.Context(), s.lockd, strings.Fields(here)[1:]...)
		cmd.Env = append(os.Environ(), "LOCKD_SERVER=tcp://"+s.addr, "COLUMNS=120")
		out, _ := cmd.CombinedOutput()
		if shape(string(out)) != shape(want) {
			t.Errorf("%s prints\n%s\nand in the document\n%s", command, out, want)
		}
		printed := address.FindAllString(string(out), -1)
		for i, a := range address.FindAllString(want, -1) {
			if i < len(printed) && addrs[a] == "" {
				addrs[a] = printed[i]
			}
		}
	}
}

func TestRunbook(t *testing.T) {
	lockd := program(t, "./cmd/lockd")
	document := read(t, "docs/operations.md")
	markers := regexp.MustCompile("(?ms)^<!-- incident: ([a-z ]+) -->\n```\n(.*?)^```$").FindAllStringSubmatch(document, -1)
	found := make(map[string]bool)
	for _, m := range markers {
		found[m[1]] = true
		incident, ok := incidents[m[1]]
		if !ok {
			t.Errorf("nobody can play the incident %q", m[1])
			continue
		}
		t.Run(m[1], func(t *testing.T) {
			t.Parallel()
			s, stop := serveIncident(t, lockd, incident.flags...)
			defer stop()
			incident.play(t, s)
			s.run(t, m[2], make(map[string]string))
		})
	}
	for name := range incidents {
		if !found[name] {
			t.Errorf("docs/operations.md does not have the incident %q", name)
		}
	}
}

// What the log says of a stop is what the document shows.
func TestRunbookStop(t *testing.T) {
	m := regexp.MustCompile("(?ms)^<!-- log -->\n```\n(.*?)^```$").FindStringSubmatch(read(t, "docs/operations.md"))
	if m == nil {
		t.Fatal("docs/operations.md shows no log")
	}
	s, stop := serveIncident(t, program(t, "./cmd/lockd"), "--log-losses")
	s.client(t, "www-data@web3 31164 make", "g deploy")
	if log := stop(); shape(log) != shape(m[1]) {
		t.Errorf("the log says\n%s\nand in the document\n%s", log, m[1])
	}
}

// The README's first look: a lock that nc takes is there, and when nc ends it is
// among the losses.
func TestLook(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^<!-- look -->\n```\n(.*?)^```$").FindAllStringSubmatch(read(t, "README.md"), -1)
	if len(blocks) != 3 {
		t.Fatalf("the README has %d blocks for a first look, not 3", len(blocks))
	}
	s, stop := serveIncident(t, program(t, "./cmd/lockd"))
	defer stop()
	lines := strings.Split(blocks[0][1], "\n")
	if len(lines) != 4 || lines[0] != "$ nc 127.0.0.1 9999" {
		t.Fatalf("the first block is %q", lines)
	}
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintln(c, lines[1])
	if reply, err := bufio.NewReader(c).ReadString('\n'); reply != lines[2]+"\n" {
		t.Errorf("nc prints %q, %v", reply, err)
	}
	addrs := make(map[string]string)
	s.run(t, blocks[1][1], addrs)
	c.Close()
	s.run(t, blocks[2][1], addrs)
}

// Of each metric it says what to do about it, and of nothing else.
func TestMetricsAreExplained(t *testing.T) {
	metrics, explained := make(map[string]bool), make(map[string]bool)
	for _, row := range table(t, part(t, "docs/metrics.md", "metrics")) {
		metrics[quoted(row[0])[0]] = true
	}
	_, text, _ := strings.Cut(read(t, "docs/operations.md"), "\n## What the metrics tell\n")
	for _, row := range table(t, text) {
		for _, name := range quoted(row[0]) {
			explained[name] = true
		}
	}
	same(t, "metrics in docs/operations.md", explained, metrics)
}

// serveIncident starts a server, and returns what ends it and tells what it
// has logged since.
func serveIncident(t *testing.T, lockd string, flags ...string) (s *incident, stop func() string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	cmd := exec.Command(lockd, append([]string{"serve", "--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-timeout", "1s"}, flags...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log := bufio.NewReader(stderr)
	line, err := log.ReadString('\n')
	m := regexp.MustCompile(`tcp=(\S+) admin=(\S+)`).FindStringSubmatch(line)
	if m == nil {
		cmd.Process.Kill()
		t.Fatalf("it says %q, %v", line, err)
	}
	return &incident{lockd, m[1], m[2]}, func() string {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer kill.Stop()
		var rest bytes.Buffer
		io.Copy(&rest, log)
		cmd.Wait()
		return rest.String()
	}
}
