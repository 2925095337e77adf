//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// plays runs a script by lockd shell.
func plays(t *testing.T, server, script string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary, "shell", "-s", server)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &out, &errs
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func TestShellScripts(t *testing.T) {
	t.Parallel()
	dir := short(t)
	d := start(t, nil, "-t", anyPort, "--unix", dir+"/s", "-w", anyPort, "--admin", "off")
	dial(t, "tcp", d.addr("tcp")).ask("g held", "1 Lock Get Success: held")
	long := "i " + strings.Repeat("x", 300<<10)
	servers := map[string]string{"tcp": d.addr("tcp"), "unix": "unix://" + dir + "/s", "ws": "ws://" + d.addr("websocket")}
	for name, server := range servers {
		for i, test := range []struct {
			script, stdout, stderr string
			code                   int
		}{
			{"", "", "", 0},
			{"\n# nothing\n  # nothing\n \t\n", "", "", 0},
			{"g a\nsg b\nr a\n", "1 Lock Get Success: a\n1 Shared Lock Get Success: b\n1 Lock Release Success: a\n", "", 0},
			// Free again, since the script before has ended.
			{" g  a \r\ni a", "1 Lock Get Success: a\n1 Lock Is Locked: a\n", "", 0},
			{"g\ng \xff\x00\nr \xff\x00\n", "1 Lock Get Success: \n1 Lock Get Success: \xff\x00\n1 Lock Release Success: \xff\x00\n", "", 0},
			{"g held\ngw 10 held\ngw x y\nri 5 1000 rate\n", "0 Lock Get Failure: held\n0 Lock Get Timeout: held\n0 Invalid Argument: gw\n5 Rate Open: rate\n", "", 0},
			{"d none\nsd\nwho\nping\nping\ndump shared\n", "1 pong\n1 pong\nmap[]\n", "", 0},
			{"iam x\nsg b\nsg c\nsd b\n", "1 ok\n1 Shared Lock Get Success: b\n1 Shared Lock Get Success: c\nb: x\n", "", 0},
			// What the server does not know, and what it is not asked.
			{"ping\nfoo bar\n\n\x1b[m\nping\n", "1 pong\n1 pong\n",
				"lockd: line 2: no reply: the server does not know the verb foo\n" +
					"lockd: line 4: no reply: the server does not know the verb \"\\x1b[m\"\n", 1},
			{"cancel\nping\nhello 2\n0 ping\n", "1 pong\n", "lockd: line 1: no reply: the server does not know the verb cancel\n" +
				"lockd: line 3: a script speaks protocol 1\nlockd: line 4: no reply: the server does not know the verb 0\n", 1},
			{long + "\nping\n" + long, "1 pong\n", "lockd: line 1: it is longer than 262144 bytes\nlockd: line 3: it is longer than 262144 bytes\n", 1},
			{long[:5000] + "\nping\n", "0 Line Too Long\n1 pong\n", "", 0},
			{"g a\nbye\ng b\n", "1 Lock Get Success: a\n1 bye\n", "", 0},
		} {
			code, stdout, stderr := plays(t, server, test.script)
			if code != test.code || stdout != test.stdout || stderr != test.stderr {
				t.Errorf("%s, script %d: exit code %d, stdout %q, stderr %q\nwant %d, %q, %q",
					name, i, code, stdout, stderr, test.code, test.stdout, test.stderr)
			}
		}
	}
}

// TestShellScriptsOnOldServers: one that loses what is sent ahead, and one that
// does not, both silent on what they do not know.
func TestShellScriptsOnOldServers(t *testing.T) {
	t.Parallel()
	for name, eol := range map[string]string{"glockd": "\r\n", "lockd for Node.js": "\n"} {
		long := strings.Repeat("x", 5000)
		code, stdout, stderr := plays(t, oldServer(t, eol), "g a\ni a\ngw 10 a\ni free\ng "+long+"\nr a\n")
		want := "1 Lock Get Success: a\n1 Lock Is Locked: a\n0 Lock Not Locked: free\n1 Lock Release Success: a\n"
		wantErr := "lockd: line 3: no reply: the server does not know the verb gw\nlockd: line 5: it is too long for this server\n"
		if code != 1 || stdout != want || stderr != wantErr {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
		code, stdout, stderr = plays(t, oldServer(t, eol), strings.Repeat("g a\nr a\n", 200))
		want = strings.Repeat("1 Lock Get Success: a\n1 Lock Release Success: a\n", 200)
		if code != 0 || stdout != want || stderr != "" {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
		}
	}
}

func TestShellFails(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", free(t), "--admin", "off")
	addr := d.addr("tcp")
	ending := script(t, func() func(string) (string, bool) {
		return func(line string) (string, bool) {
			switch verb, name, _ := strings.Cut(line, " "); verb {
			case "i":
				return "0 Lock Not Locked: " + name + "\n", false
			case "ping":
				return "1 pong\n", false
			case "sg":
				return "1 Shared Lock Get", true
			}
			return "", true
		}
	})
	d.stop(9)
	for _, test := range []struct {
		server, script string
		code           int
		stdout, want   string
	}{
		{addr, "g a\n", 69, "", "lockd: cannot reach " + addr + ": connection refused\n"},
		{"http://x", "g a\n", 2, "", `lockd: --server: "http://x": want tcp://, tls://, unix://, ws:// or wss:// (see lockd shell --help)` + "\n"},
		{ending, "ping\ni x\ng a\nping\n", 69, "1 pong\n0 Lock Not Locked: x\n",
			"lockd: " + ending + ": connection lost, line 3: no reply: the server closed the connection\n"},
		{ending, "ping\n#\nsg a\n", 69, "1 pong\n",
			"lockd: " + ending + ": connection lost, line 3: no reply: the server closed the connection\n"},
		{ending, "bye\n", 69, "", "lockd: " + ending + ": connection lost, line 1: no reply: the server closed the connection\n"},
	} {
		code, stdout, stderr := plays(t, test.server, test.script)
		if code != test.code || stdout != test.stdout || stderr != test.want {
			t.Errorf("%s %q: exit code %d, stdout %q, stderr %q\nwant %d, %q, %q",
				test.server, test.script, code, stdout, stderr, test.code, test.stdout, test.want)
		}
	}
	if code, _, stderr := run("shell", "file"); code != 2 || !strings.Contains(stderr, "unexpected argument file") {
		t.Errorf("shell file: exit code %d, %q", code, stderr)
	}
}

// beginShell runs a script that is written meanwhile.
func beginShell(t *testing.T, server string) *runner {
	t.Helper()
	return beginCommand(t, exec.Command(binary, "shell", "-s", server))
}

// TestShellScriptGoesOn: each reply is printed when it is there, also while
// others are waited for, and the end of the server is told though nothing is
// asked.
func TestShellScriptGoesOn(t *testing.T) {
	t.Parallel()
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g held", "1 Lock Get Success: held")
	s := beginShell(t, d.addr("tcp"))
	io.WriteString(s.in, "g a\nd a\ngw 60000 held\nping\n")
	s.says("1 Lock Get Success: a")
	if line := s.line(); !strings.HasPrefix(line, "a: 127.0.0.1:") {
		t.Errorf("d: %q", line)
	}
	await(t, func() bool { return strings.Contains(stats(holder), "command_gw: 1\n") })
	holder.ask("r held", "1 Lock Release Success: held")
	s.says("1 Lock Get Success: held")
	s.says("1 pong")
	d.stop(9)
	s.ends(69)
	if got, want := s.err.String(), "lockd: "+d.addr("tcp")+": connection lost: the server closed the connection\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
}

// TestShellLongScript: 100,000 lines, of which the first one waits: what is sent
// ahead is no more than the server takes behind a wait, so that goes on.
func TestShellLongScript(t *testing.T) {
	t.Parallel()
	const lines = 100_000
	d := start(t, nil, "-t", anyPort, "--admin", "off")
	holder := dial(t, "tcp", d.addr("tcp"))
	holder.ask("g held", "1 Lock Get Success: held")
	s := beginShell(t, d.addr("tcp"))
	pad := strings.Repeat("x", 100)
	written := make(chan error, 1)
	go func() {
		_, err := io.WriteString(s.in, "gw 60000 held\n")
		for i := 0; i < lines/2 && err == nil; i++ {
			_, err = fmt.Fprintf(s.in, "g %d %s\nr %d %s\n", i, pad, i, pad)
		}
		s.in.Close()
		written <- err
	}()
	await(t, func() bool { return strings.Contains(stats(holder), "command_gw: 1\n") })
	time.Sleep(100 * time.Millisecond) // for more to be sent ahead than should be
	holder.SetDeadline(time.Now().Add(patience))
	holder.ask("r held", "1 Lock Release Success: held")
	s.says("1 Lock Get Success: held")
	for i := range lines / 2 {
		s.says(fmt.Sprintf("1 Lock Get Success: %d %s", i, pad))
		s.says(fmt.Sprintf("1 Lock Release Success: %d %s", i, pad))
	}
	s.ends(0)
	if err := <-written; err != nil {
		t.Error(err)
	}
}
