package netlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What a cable loses is lost, and nothing else, until it is mended.
func TestCable(t *testing.T) {
	t.Parallel()
	lab := New(t)
	var near net.PacketConn
	var far net.Conn
	var err error
	lab.AtNear(func() { near, err = net.ListenPacket("udp", Near+":9999") })
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	lab.AtFar(func() { far, err = net.Dial("udp", Near+":9999") })
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	// ways are from far to near, and back. Each sends packets and tells how many arrive,
	// and waits for so many for as long as it takes: they may be late, and are no others'.
	const packets = 100
	round := 0
	way := func(write func([]byte) (int, error), in interface {
		ReadFrom([]byte) (int, net.Addr, error)
		SetReadDeadline(time.Time) error
	}) func(least int) int {
		return func(least int) (n int) {
			round++
			mark := fmt.Sprintf("round %d", round)
			for range packets {
				write([]byte(mark))
			}
			for buf := make([]byte, 64); n < packets; {
				wait := 50 * time.Millisecond
				if n < least {
					wait = 10 * time.Second
				}
				in.SetReadDeadline(time.Now().Add(wait))
				size, _, err := in.ReadFrom(buf)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err == nil && string(buf[:size]) == mark {
					n++
				}
			}
			return n
		}
	}
	ways := [2]func(int) int{
		way(far.Write, near),
		way(func(b []byte) (int, error) { return near.WriteTo(b, far.LocalAddr()) }, far.(*net.UDPConn)),
	}
	type span [2]int
	all, some, none := span{packets, packets}, span{1, packets - 1}, span{0, 0}
	check := func(what any, want [2]span) {
		t.Helper()
		for i, w := range want {
			if got := ways[i](w[0]); got < w[0] || got > w[1] {
				t.Errorf("%v: way %d, %d of %d packets arrive", what, i, got, packets)
			}
		}
	}
	for _, c := range []struct {
		loss        Loss
		there, back span
	}{
		{Loss{}, all, all},
		{Loss{In: 50}, all, some},
		{Loss{Out: 50}, some, all},
		{Loss{In: 100, Out: 50}, some, none},
		{Loss{Parts: 4, Part: 1}, all, all}, // it is about TCP
	} {
		lab.Lose(c.loss)
		check(c.loss, [2]span{c.there, c.back})
	}
	for w, want := range map[Way][2]span{Both: {none, none}, Deaf: {all, none}, Mute: {none, all}, LinkDown: {none, none}, FarDown: {none, none}} {
		lab.Cut(w)
		check(w, want)
		lab.Mend()
		// The kernel asks again who has the address when the cable is plugged in.
		for end := time.Now().Add(10 * time.Second); ways[0](0) != packets || ways[1](0) != packets; {
			if time.Now().After(end) {
				t.Fatalf("%v: packets are lost when it is mended", w)
			}
		}
	}
}

// Of connections of TCP some can be lost, while others go on.
func TestCableLosesConnections(t *testing.T) {
	t.Parallel()
	lab := New(t)
	var l net.Listener
	var err error
	lab.AtNear(func() { l, err = net.Listen("tcp", Near+":9999") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const parts = 4
	lab.Lose(Loss{Parts: parts, Part: 3})
	connected, lost := 0, 0
	for port := 20000; port < 20000+2*parts; port++ {
		var c net.Conn
		lab.AtFar(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 10 * time.Second}
			if port%parts == 3 {
				d.Timeout = 50 * time.Millisecond
			}
			c, err = d.Dial("tcp", Near+":9999")
		})
		switch {
		case (err == nil) == (port%parts == 3):
			t.Errorf("from port %d: %v", port, err)
		case err == nil:
			connected++
		default:
			lost++
		}
		if c != nil {
			c.Close()
		}
	}
	if connected != 6 || lost != 2 {
		t.Errorf("%d connections, %d are lost", connected, lost)
	}
}

// A cable that is removed leaves nothing behind, and is nobody else's.
func TestCablesAreApart(t *testing.T) {
	t.Parallel()
	New(t) // skips where there is none
	one, err := Lay()
	if err != nil {
		t.Fatal(err)
	}
	two, err := Lay()
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Remove(); err != nil {
		t.Error(err)
	}
	if err := one.AtNear(func() {}); err == nil {
		t.Error("there is a machine when it is removed")
	}
	var out []byte
	cmd := exec.Command("ip", "-brief", "addr")
	if err := two.FarCommand(cmd); err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), Far) {
		t.Errorf("on the other machine: %v, %s", err, out)
	}
	if err := two.Remove(); err != nil {
		t.Error(err)
	}
	list, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Cable{one, two} {
		if strings.Contains(string(list), c.near) || strings.Contains(string(list), c.far) {
			t.Errorf("%v is left in %s", c, list)
		}
	}
}
