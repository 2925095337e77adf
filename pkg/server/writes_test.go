package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// "Each reply leaves in ONE write (some clients do a single recv)": of many
// lines or one, and when the request comes byte by byte.
func TestOneReplyOneWrite(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	exchange := [][2]string{
		{"g foo\n", "1 Lock Get Success: foo\n"},
		{"sg foo\n", "1 Shared Lock Get Success: foo\n"},
		{"sg\r\n", "1 Shared Lock Get Success: \n"},
		{"xx\n", ""},
		{"\n", ""},
		{"d none\n", ""},
		{"who\n", ""},
		{"i bar\n", "0 Lock Not Locked: bar\n"},
		{"d\n", "foo: " + wireAddr + "\n"},
		{"sd foo\n", "foo: " + wireAddr + "\n"},
		{"dump\n", "map[foo:" + wireAddr + "]\n"},
		{"dump shared\n", "map[:[" + wireAddr + "] foo:[" + wireAddr + "]]\n"},
		{"iam x\n", "1 ok\n"},
		{"me\n", "1 " + wireAddr + " x\n"},
		{"who\n", wireAddr + ": x\n"},
		{"q\n", "command_d: 2\ncommand_dump: 2\ncommand_g: 1\ncommand_i: 1\ncommand_iam: 1\ncommand_me: 1\n" +
			"command_q: 1\ncommand_r: 0\ncommand_sd: 1\ncommand_sg: 2\ncommand_si: 0\ncommand_sr: 0\n" +
			"command_who: 2\nconnections: 1\ninvalid_commands: 1\nlocks: 1\norphans: 0\n" +
			"shared_locks: 2\nshared_orphans: 0\n"},
		{"g " + strings.Repeat("x", 5000) + "\n", "0 Line Too Long\n"},
		{"r foo\n", "1 Lock Release Success: foo\n"},
	}
	var requests, replies []string
	for _, e := range exchange {
		requests = append(requests, e[0])
		if e[1] != "" {
			replies = append(replies, e[1])
		}
	}
	if got := s.run(t, pieces(requests...)); !slices.Equal(got, replies) {
		t.Errorf("wrote %q\nnot   %q", got, replies)
	}
	// The counters have gone on.
	q := slices.IndexFunc(requests, func(r string) bool { return r == "q\n" })
	before := strings.Join(requests[:q], "")
	after := strings.Join(requests[q+1:], "")
	want := slices.DeleteFunc(slices.Clone(replies), func(r string) bool { return strings.HasPrefix(r, "command") })
	got := s.run(t, pieces(append(strings.Split(before, ""), strings.Split(after, "")...)...))
	if !slices.Equal(got, want) {
		t.Errorf("byte by byte: wrote %q\nnot   %q", got, want)
	}
}

// A listing of a few hundred lines is one write too.
func TestOneListingOneWrite(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	var gets strings.Builder
	for i := range 400 {
		fmt.Fprintf(&gets, "g lock number %d\n", i)
	}
	for _, request := range []string{"d\n", "dump\n"} {
		got := s.run(t, pieces(gets.String(), request))
		got = got[slices.IndexFunc(got, func(w string) bool { return strings.Contains(w, "399\n") })+1:]
		if len(got) != 1 || strings.Count(got[0], wireAddr) != 400 || !strings.HasSuffix(got[0], "\n") {
			t.Errorf("%q left in %d writes", request, len(got))
		}
	}
}

// "Replies to pipelined requests share writes."
func TestPipelinedRepliesShareWrites(t *testing.T) {
	t.Parallel()
	s := startWired(t, server.Options{})
	got := s.run(t, pieces("g foo\ni foo\ni b", "ar\nr foo\nr foo\n"))
	want := []string{
		"1 Lock Get Success: foo\n1 Lock Is Locked: foo\n",
		"0 Lock Not Locked: bar\n1 Lock Release Success: foo\n0 Lock Release Failure: foo\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("wrote %q\nnot   %q", got, want)
	}
}
