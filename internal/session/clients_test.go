package session

import (
	"sync"
	"testing"
)

// Who asks who is there, as the log does when the server shuts down, may do so
// while others come and go.
func TestClientsWhileTheyBegin(t *testing.T) {
	h := newHub(testConfig())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				st := newStream(h, "a:1", new(bell))
				st.request([]byte("g x"), nil)
				st.Close()
			}
		})
	}
	for range 200 {
		for _, c := range first(h.Clients(10)) {
			if c.Address() != "a:1" || c.Locks > 1 {
				t.Errorf("%s holds %d", c.Address(), c.Locks)
			}
		}
	}
	all.Wait()
}

func first[A, B any](a A, _ B) A { return a }
