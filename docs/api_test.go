package docs_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// TestAPI runs the commands of docs/api.md, and compares what they print with what
// stands there: all but the numbers, times and addresses.
func TestAPI(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	s := newServerWith(t, server.Options{TCP: []string{"127.0.0.1:0"}, Admin: "127.0.0.1:0"})
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	tcp, admin := s.Addrs()[0].String(), s.Addrs()[1].String()
	say := func(lines ...string) net.Conn {
		c, err := net.Dial("tcp", tcp)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewScanner(c)
		for _, line := range lines {
			if io.WriteString(c, line+"\n"); !strings.HasPrefix(line, "gw") && !in.Scan() {
				t.Fatalf("no reply to %s", line)
			}
		}
		return c
	}
	holder := say("iam nightly backup", "g db/main")
	say("gw 60000 db/main")
	text := read(t, "docs/api.md")
	examples := regexp.MustCompile(`(?m)^\$ (curl .*)\n((?:[ {].*\n)+)`).FindAllStringSubmatch(text, -1)
	if len(examples) != 5 {
		t.Fatalf("found %d examples, want 5", len(examples))
	}
	for _, e := range examples {
		command := strings.NewReplacer("127.0.0.1:9997", admin, "127.0.0.1:54052", holder.LocalAddr().String()).Replace(e[1])
		ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		var want, got any
		if err := json.Unmarshal([]byte(e[2]), &want); err != nil {
			t.Fatalf("%v in %s", err, e[2])
		}
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
			out, err := exec.CommandContext(ctx, "sh", "-c", strings.Replace(command, "curl", "curl -sS", 1)).Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%s: %v in %s", command, err, out)
			}
			difference := differ(want, got, "")
			if difference == "" {
				break
			}
			if time.Now().After(end) || strings.Contains(command, "kick") { // which is not done twice
				t.Fatalf("%s: %s in %s", command, difference, out)
			}
		}
	}
	// The table has all that there is.
	var doc struct{ Paths map[string]map[string]any }
	out, err := exec.Command("curl", "-sS", "http://"+admin+"/api/v1/openapi.json").Output()
	if err != nil || json.Unmarshal(out, &doc) != nil || len(doc.Paths) == 0 {
		t.Fatalf("%v in %s", err, out)
	}
	n := 0
	for path, item := range doc.Paths {
		for method := range item {
			n++
			if !strings.Contains(text, fmt.Sprintf("| `%s %s` |", strings.ToUpper(method), path)) {
				t.Errorf("docs/api.md does not have %s %s", method, path)
			}
		}
	}
	if rows := len(table(t, text)); rows != n {
		t.Errorf("docs/api.md has %d requests, and there are %d", rows, n)
	}
}

// varies is what differs from one run to the next: times and addresses.
var varies = regexp.MustCompile(`^(20\d\d-\d\d-\d\dT.*Z|127\.0\.0\.1:\d+)$`)

// differ tells in what two values differ but for that and for numbers.
func differ(want, got any, at string) string {
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		for k := range got {
			if _, ok := want[k]; !ok {
				return at + "/" + k + " is not in the example"
			}
		}
		for k, v := range want {
			if _, ok := got[k]; !ok {
				return at + "/" + k + " is not there"
			}
			if d := differ(v, got[k], at+"/"+k); d != "" {
				return d
			}
		}
		return ""
	case []any:
		got, _ := got.([]any)
		if len(got) != len(want) {
			return fmt.Sprintf("%s has %d, not %d", at, len(got), len(want))
		}
		for i := range want {
			if d := differ(want[i], got[i], fmt.Sprint(at, "/", i)); d != "" {
				return d
			}
		}
		return ""
	case float64:
		if got, ok := got.(float64); ok && (want == 0 || got != 0 || strings.HasSuffix(at, "_ms")) {
			return ""
		}
	case string:
		if got, ok := got.(string); ok && (want == got || varies.MatchString(want) && varies.MatchString(got)) {
			return ""
		}
	default:
		if want == got {
			return ""
		}
	}
	return fmt.Sprintf("%s is %v, not %v", at, got, want)
}
