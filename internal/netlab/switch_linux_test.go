package netlab

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"
)

// A switch's machines reach each other, but for whom they shall not, and one way too.
func TestSwitch(t *testing.T) {
	t.Parallel()
	s, err := NewSwitch()
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}()
	var machines []*Machine
	for _, name := range []string{"a", "b", "c"} {
		m, err := s.Machine(name)
		if err != nil {
			t.Fatal(err)
		}
		machines = append(machines, m)
		var l net.Listener
		if e := m.At(func() { l, err = net.Listen("tcp", m.Addr+":9999") }); e != nil || err != nil {
			t.Fatal(e, err)
		}
		defer l.Close()
	}
	reaches := func(want string) {
		t.Helper()
		got := ""
		for _, from := range machines {
			for _, to := range machines {
				within := 10 * time.Second
				if !strings.Contains(want, from.Name+to.Name) {
					within = 50 * time.Millisecond
				}
				if c, err := from.Dial("tcp", to.Addr+":9999", within); err == nil {
					c.Close()
					got += " " + from.Name + to.Name
				}
			}
		}
		if got != want {
			t.Errorf("reached are%s, not%s", got, want)
		}
	}
	a, b := machines[0], machines[1]
	const all = " aa ab ac ba bb bc ca cb cc"
	reaches(all)
	mend, err := a.Drop(Drop{In: 100, Peers: []*Machine{b}})
	if err != nil {
		t.Fatal(err)
	}
	reaches(" aa ac bb bc ca cb cc")
	everybody, err := a.Drop(Drop{Out: 100})
	if err != nil {
		t.Fatal(err)
	}
	reaches(" aa bb bc cb cc")
	if err := mend(); err != nil {
		t.Fatal(err)
	}
	reaches(" aa bb bc cb cc")
	if err := everybody(); err != nil {
		t.Fatal(err)
	}
	reaches(all)
}
