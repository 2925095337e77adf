package admin

import (
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conns makes connections, and tells whether one has been closed.
func conns(t *testing.T, n int) (all []net.Conn, closed func(net.Conn) bool) {
	others := make(map[net.Conn]net.Conn)
	for range n {
		c, other := net.Pipe()
		t.Cleanup(func() { c.Close(); other.Close() })
		all = append(all, c)
		others[c] = other
	}
	return all, func(c net.Conn) bool {
		other := others[c]
		other.SetReadDeadline(time.Unix(1, 0))
		_, err := other.Read(make([]byte, 1))
		return err != nil && !strings.Contains(err.Error(), "timeout")
	}
}

// At the bound, one more gets the place of the one whose time has been over for
// longest, and only of that one.
func TestPlaces(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	p := newPlaces(slog.New(slog.NewTextHandler(&log, nil)))
	all, closed := conns(t, MaxConnections+2)
	full := all[:MaxConnections]
	for i, c := range full {
		p.follow(c, http.StateNew)
		p.taken[c] = time.Now().Add(time.Hour)
		if i == 7 || i == 9 {
			p.taken[c] = time.Now().Add(time.Duration(i) * -time.Minute)
		}
	}
	check := func(gone ...int) {
		t.Helper()
		n := 0
		for i, c := range full {
			want := len(gone) > 0 && (gone[0] == i || len(gone) > 1 && gone[1] == i)
			if closed(c) != want {
				t.Errorf("connection %d is closed: %v", i, !want)
			}
			if want {
				n++
			}
		}
		if len(p.taken) > MaxConnections {
			t.Errorf("%d places are taken", len(p.taken))
		}
	}
	check()
	p.follow(all[MaxConnections], http.StateNew)
	check(9)
	p.taken[all[MaxConnections]] = time.Now().Add(time.Hour)
	p.follow(all[MaxConnections+1], http.StateNew)
	check(9, 7)
	if n := strings.Count(log.String(), "ending those that hang"); n != 1 {
		t.Errorf("the log was told %d times: %q", n, log.String())
	}
	// Those that had to go get no place by what they do next.
	for _, state := range []http.ConnState{http.StateActive, http.StateIdle, http.StateClosed} {
		p.follow(full[9], state)
	}
	if len(p.taken) != MaxConnections {
		t.Errorf("%d places are taken", len(p.taken))
	}
}

// Who comes when all are busy waits until one is not, or has been for too long.
func TestPlacesWait(t *testing.T) {
	t.Parallel()
	for what, free := range map[string]func(*places, net.Conn){
		"one ends":        func(p *places, c net.Conn) { p.follow(c, http.StateClosed) },
		"one is done":     func(p *places, c net.Conn) { p.follow(c, http.StateIdle) },
		"time goes by":    func(p *places, c net.Conn) {},
		"one is hijacked": func(p *places, c net.Conn) { p.follow(c, http.StateHijacked) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := newPlaces(slog.New(slog.DiscardHandler))
			all, closed := conns(t, MaxConnections+1)
			for _, c := range all[:MaxConnections] {
				p.follow(c, http.StateNew)
				p.follow(c, http.StateActive)
			}
			in := make(chan struct{})
			go func() {
				p.follow(all[MaxConnections], http.StateNew)
				close(in)
			}()
			free(p, all[3])
			<-in
			n := 0
			for _, c := range all {
				if closed(c) {
					n++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[what == "one ends" || what == "one is hijacked"]; n != want || len(p.taken) != MaxConnections {
				t.Errorf("%d were closed, not %d; %d places are taken", n, want, len(p.taken))
			}
		})
	}
}
