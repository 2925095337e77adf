package session

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A laggard is a network that knows its connections when it is told to.
type laggard struct {
	noNetwork
	asked []func()
}

func (n *laggard) CatchUp(f func()) bool {
	n.asked = append(n.asked, f)
	return true
}

// `q` waits until it is known which connections there are, whatever else wakes
// its stream, such as the time of an earlier request that was up just when that
// was answered; but for a second only.
func TestQWaitsForTheConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := new(laggard)
		h := NewHub(testConfig(), network)
		st := newStream(h, "s", new(bell))
		defer st.Close()
		for _, told := range []bool{true, false} {
			if out, next := advance(st, "q\n"); out != "" || next != Waiting {
				t.Fatalf("%q, next is %d", out, next)
			}
			st.post(&st.main)
			time.Sleep(catchUpMost - time.Nanosecond)
			if out, next := advance(st, ""); out != "" || next != Waiting {
				t.Fatalf("woken by something else: %q, next is %d", out, next)
			}
			if told {
				network.asked[0]()
			} else {
				time.Sleep(time.Nanosecond)
				synctest.Wait()
			}
			if out, next := advance(st, ""); !strings.Contains(out, "connections: 0\n") || next != Idle {
				t.Errorf("%q, next is %d", out, next)
			}
		}
	})
}
