package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/netlab"
)

// TestBenchTargets: as the other commands find their server, so does this one.
func TestBenchTargets(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	small := []string{"bench", "-c", "2", "-n", "100", "--warmup", "0", "--json"}
	for _, test := range []struct {
		server, target string
		args           []string
	}{
		{server: d.addr("tcp"), target: "tcp://" + d.addr("tcp")},
		{server: "unix://" + dir + "/s", args: []string{"--short"}},
		{server: "ws://" + d.addr("websocket") + "/locks"},
		{server: "ws://" + d.addr("websocket"), args: []string{"-P", "16", "--mix", "shared"}},
	} {
		if test.target == "" {
			test.target = test.server
		}
		for _, env := range []bool{false, true} {
			cmd := exec.Command(binary, append(small, test.args...)...)
			if cmd.Env = os.Environ(); env {
				cmd.Env = append(cmd.Env, "LOCKD_SERVER="+test.server)
			} else {
				cmd.Args = append(cmd.Args, "-s", test.server)
			}
			var report struct {
				Target   string
				Requests int
				Errors   map[string]int
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: %v", test.server, err)
			}
			if err := json.Unmarshal(out, &report); err != nil || report.Target != test.target || report.Requests != 100 ||
				report.Errors == nil || len(report.Errors) > 0 || strings.Count(string(out), "\n") != 1 {
				t.Errorf("%s: %s, %v", test.server, out, err)
			}
		}
	}
}

func TestBenchFails(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "-w", anyPort, "--admin", "off", "--max-connections", "4")
	tcp, ws := d.addr("tcp"), "ws://"+d.addr("websocket")
	for _, test := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--server: \"http://x\": want tcp://", []string{"-s", "http://x"}},
		{2, "--server: must not be empty", []string{"-s", ""}},
		{2, "HOST:PORT", []string{"-s", "redis://x"}},
		{2, "unexpected argument " + tcp, []string{tcp}},
		{2, "redis has no shared locks", []string{"-s", "redis://" + tcp, "--mix", "shared"}},
		{2, "not over WebSocket", []string{"-s", ws, "--short"}},
		{2, "threads must be between 1 and 1024", []string{"--threads", "5000"}},
		{2, "cannot watch the process 2147483647: there is none", []string{"--server-pid", "2147483647"}},
		{2, "--connect-timeout: must be above 0", []string{"--connect-timeout", "0"}},
		{69, "cannot reach tcp://" + netlab.Nobody + ": connection refused\n", []string{"-s", netlab.Nobody}},
		{69, "cannot reach redis://" + netlab.Nobody + ": connection refused\n", []string{"-s", "redis://" + netlab.Nobody}},
		{69, "cannot reach ws://" + netlab.Nobody + "/x: connection refused\n", []string{"-s", "ws://" + netlab.Nobody + "/x"}},
		{69, "too many connections (after 4 connections)\n", []string{"-s", ws, "-c", "5"}},
		{69, "400", []string{"-s", "ws://" + tcp, "-c", "1"}},
		{69, "out of step", []string{"-s", strings.TrimPrefix(ws, "ws://"), "-c", "1", "--warmup", "0"}},
	} {
		code, stdout, stderr := run(append([]string{"bench", "-d", "0.1"}, test.args...)...)
		if code != test.code || stdout != "" || strings.Count(stderr, "\n") != 1 ||
			!strings.HasPrefix(stderr, "lockd: ") || !strings.Contains(stderr, test.want) {
			t.Errorf("%q: exit code %d, want %d; stdout %q, stderr %q, want one line with %q",
				test.args, code, test.code, stdout, stderr, test.want)
		}
		if usage := strings.Contains(stderr, "(see lockd bench --help)"); usage != (code == 2) {
			t.Errorf("%q: exit code %d, stderr %q", test.args, code, stderr)
		}
	}
}
