package session

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/wire"
)

func TestCommandTable(t *testing.T) {
	if len(commands) > maxCommands {
		t.Errorf("%d commands, counters have room for %d", len(commands), maxCommands)
	}
	seen := map[string]bool{}
	for i, c := range commands {
		if c.verb == "" || strings.ContainsAny(c.verb, " \t\r\n\v\f") {
			t.Errorf("%q is no verb", c.verb)
		}
		if seen[c.verb] {
			t.Errorf("%s is there twice", c.verb)
		}
		seen[c.verb] = true
		if c.do == nil {
			t.Errorf("%s does nothing", c.verb)
		}
		if c.help == "" || strings.TrimRight(c.help, ".\n ") != c.help {
			t.Errorf("the help for %s is %q, want a line without a period", c.verb, c.help)
		}
		if c.number != i {
			t.Errorf("%s is number %d, at %d", c.verb, c.number, i)
		}
		if lookup([]byte(c.verb)) != &commands[i] {
			t.Errorf("lookup does not find %s", c.verb)
		}
		for _, other := range []string{c.verb + "x", strings.ToUpper(c.verb), "x" + c.verb} {
			if !seen[other] && lookup([]byte(other)) != nil {
				t.Errorf("lookup takes %s for a verb", other)
			}
		}
		// The upper-case words of HTTP must not be verbs.
		if c.verb == strings.ToUpper(c.verb) {
			t.Errorf("%s is upper case", c.verb)
		}
	}
	for _, verb := range strings.Fields("g r i sg sr si d sd dump me iam who q") {
		if !seen[verb] {
			t.Errorf("there is no %s", verb)
		}
	}
}

// `q` shows what glockd shows before the first use of anything, and each
// command once it was used.
func TestCommandsAreCounted(t *testing.T) {
	h := newHub(testConfig())
	s := newStream(h, "a:1", nil)
	keys := func() (keys []string) {
		for _, line := range strings.Split(strings.TrimSpace(string(feedAll(t, s, []byte("q\n")))), "\n") {
			key, _, _ := strings.Cut(line, ": ")
			keys = append(keys, key)
		}
		return keys
	}
	want := "command_d command_dump command_g command_i command_q command_r command_sd command_sg command_si command_sr " +
		"connections invalid_commands locks orphans shared_locks shared_orphans"
	if got := strings.Join(keys(), " "); got != want {
		t.Errorf("q lists %s, want %s", got, want)
	}
	for _, c := range commands {
		if c.verb == "bye" || c.flags&onlySessions != 0 {
			continue
		}
		before := h.Stats().Commands[c.verb]
		feedAll(t, s, []byte(c.verb+" x\n"))
		if after := h.Stats().Commands[c.verb]; after != before+1 {
			t.Errorf("%s was counted %d times", c.verb, after-before)
		}
	}
	all := 6
	for _, c := range commands {
		if c.verb != "bye" && c.flags&onlySessions == 0 {
			all++
		}
	}
	if got := len(keys()); got != all {
		t.Errorf("q lists %d counters, want %d", got, all)
	}
}

// Each usage of each verb has a row in a table of the docs.
func TestCommandsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		rows[m[1]] = true
	}
	for _, v := range Verbs() {
		usages := []string{v.Usage()}
		if without, maybe, ok := strings.Cut(v.Usage(), " ["); ok {
			usages = []string{without, without + " " + strings.TrimSuffix(maybe, "]")}
		}
		for _, usage := range usages {
			if !rows[usage] {
				t.Errorf("docs/protocol.md has no row for `%s`", usage)
			}
		}
	}
}

// What the list of verbs says of replies and protocols is what happens.
func TestVerbs(t *testing.T) {
	for _, v := range Verbs() {
		arg := ""
		for _, a := range v.Args {
			arg += fmt.Sprintf(" %d", a.Least)
		}
		if v.Rest != "" && v.Rest != "[ORDER]" {
			arg += " x"
		}
		old := newStream(newHub(testConfig()), "a", new(bell))
		reply := string(feedAll(t, old, []byte(v.Word+arg+"\n")))
		if silent := reply == ""; silent != (v.Sessions || v.Silent) {
			t.Errorf("%s replies %q in protocol 1", v.Word, reply)
		}
		old.Close()
		s := newStream(newHub(testConfig()), "a", new(bell))
		feedAll(t, s, []byte("hello 2\n"))
		reply = string(feedAll(t, s, []byte("0 "+v.Word+arg+"\n")))
		if many := strings.HasSuffix(reply, "0 "+wire.End); many != (v.Lists && v.Word != wire.Map) { // it lists in a cluster
			t.Errorf("%s replies %q, and Lists is %v", v.Word, reply, v.Lists)
		}
		if want := "0 " + wire.InvalidArgument + v.Word + "\n"; len(v.Args) > 0 {
			if got := string(feedAll(t, s, []byte("0 "+v.Word+" x\n"))); got != "0 "+want {
				t.Errorf("%s x replies %q", v.Word, got)
			}
		}
		s.Close()
	}
	usage := map[string]string{}
	for _, v := range Verbs() {
		usage[v.Word] = v.Usage() + ": " + v.Roles
	}
	for verb, want := range map[string]string{
		"g": "g NAME: lock, admin", "rl": "rl LIMIT MS COST NAME: lock, admin", "sd": "sd [NAME]: read, admin",
		"i": "i NAME: lock, read, admin", "hello": "hello 2 [notices]: anybody", "ping": "ping: anybody",
	} {
		if usage[verb] != want {
			t.Errorf("%s: %q, want %q", verb, usage[verb], want)
		}
	}
}

// Numbers are refused before a command sees them, each outside its bounds.
func TestArgumentsHaveBounds(t *testing.T) {
	h := newHub(testConfig())
	s := newStream(h, "a", nil)
	defer s.Close()
	two := newStream(h, "b", nil)
	defer two.Close()
	script(t, two, "hello 2\n", "2 lockd "+h.cfg.Version+"\n")
	for i := range commands {
		c := &commands[i]
		s, session := s, ""
		if c.flags&onlySessions != 0 {
			s, session = two, "0 "
		}
		for j, a := range c.args {
			for _, bad := range []uint64{a.least - 1, a.most + 1} {
				var line []byte
				for k, other := range c.args {
					n := max(other.least, 1)
					if k == j {
						n = bad
					}
					line = fmt.Appendf(line, "%d ", n)
				}
				want := session + "0 Invalid Argument: " + c.verb + "\n"
				if got := string(feedAll(t, s, []byte(session+c.verb+" "+string(line)+"x\n"))); got != want {
					t.Errorf("%s %s: %q, want %q", c.verb, line, got, want)
				}
			}
		}
	}
	script(t, s, "rl 5 1000 6 x\nrl 5 1000\nhello 2 x\n", "0 Invalid Argument: rl\n0 Invalid Argument: rl\n0 Invalid Argument: hello\n")
}
