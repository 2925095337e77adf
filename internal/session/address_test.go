package session

import "testing"

type testProcess struct {
	pid     int
	uid     uint32
	program string
}

func (p testProcess) PID() int        { return p.pid }
func (p testProcess) UID() uint32     { return p.uid }
func (p testProcess) Program() string { return p.program }

func TestAppendProcess(t *testing.T) {
	for want, p := range map[string]testProcess{
		"pid=4711 uid=1000 program=backup":   {4711, 1000, "backup"},
		`pid=1 uid=0 program="my \"job\" 1"`: {1, 0, `my "job" 1`},
		`pid=1 uid=0 program=größe`:          {1, 0, "größe"},
		"pid=1 uid=0":                        {1, 0, ""},
		"uid=4294967295":                     {0, 1<<32 - 1, ""},
	} {
		if got := string(AppendProcess([]byte("x "), p)); got != "x "+want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// All sessions of a connection are of the process that has made it.
func TestProcessOfSessions(t *testing.T) {
	h := newHub(testConfig())
	st := new(Stream)
	st.Begin(h, Address{Name: "unix:1", Process: testProcess{4711, 0, "p"}}, nil, new(Turn))
	defer st.Close()
	feedAll(t, st, []byte("hello 2\n5 sg a\n"))
	if p := st.sessions[5].peer.process(); p != (testProcess{4711, 0, "p"}) {
		t.Errorf("session 5 is of %v", p)
	}
	other := newStream(h, "1.1.1.1:1", nil)
	defer other.Close()
	if p := other.Process(); p != nil {
		t.Errorf("got %v", p)
	}
}
