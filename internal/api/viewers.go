package api

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// mostViewers is how many may follow events at a time: few enough that they leave
// places to others on the admin address, whoever they are.
const mostViewers = 16

// eventTime is how long a viewer may take to take an event, beyond what the system
// keeps for it.
const eventTime = 5 * time.Second

// viewers are those who follow events. What they are told is written down once: a
// chain of events, along which each goes at its own speed, and whose part behind the
// slowest is garbage.
type viewers struct {
	places  places
	there   atomic.Int32
	over    chan struct{} // closed at the end
	serving sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	last   *event // which has not happened yet
}

// An event is a link of the chain.
type event struct {
	happened chan struct{} // closed when what follows is there
	text     []byte
	next     *event
}

func (v *viewers) init() {
	v.places, v.over = newPlaces(mostViewers), make(chan struct{})
	v.last = &event{happened: make(chan struct{})}
}

// tell tells all viewers something, which is made if there are any.
func (v *viewers) tell(text func() []byte) {
	if v.there.Load() == 0 {
		return
	}
	next := &event{happened: make(chan struct{})}
	v.mu.Lock()
	now := v.last
	now.text, now.next = text(), next
	v.last = next
	v.mu.Unlock()
	close(now.happened)
}

// enter returns the next event for one more viewer; nil: the server has ended.
func (v *viewers) enter() *event {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return nil
	}
	v.serving.Add(1)
	v.there.Add(1)
	return v.last
}

func (v *viewers) leave() {
	v.there.Add(-1)
	v.serving.Done()
}

// close ends them.
func (v *viewers) close() {
	v.mu.Lock()
	if !v.closed {
		v.closed = true
		close(v.over)
	}
	v.mu.Unlock()
	v.serving.Wait()
}

// appendEvent appends an event as it goes over the wire. JSON has no line breaks.
func appendEvent(out []byte, name string, value any) []byte {
	data, err := json.Marshal(value)
	if err != nil {
		panic(err) // none of our types has anything that cannot be
	}
	out = append(append(out, "event: "...), name...)
	return append(append(append(out, "\ndata: "...), data...), "\n\n"...)
}

type sampleEvent struct {
	at     moment
	sample sample
}

// MarshalJSON implements json.Marshaler: the sample's object, with its time.
func (e sampleEvent) MarshalJSON() ([]byte, error) {
	at, _ := e.at.MarshalText()
	rest, _ := e.sample.MarshalJSON()
	out := append(append([]byte(`{"at":"`), at...), `",`...)
	return append(out, rest[1:]...), nil
}

// Follows tells whether a request is one that follows events.
func Follows(r *http.Request) bool { return r.URL.Path == Path+"events" }

func (a *API) events(c *call) {
	v := &a.viewers
	if !v.places.take() {
		busy(c.w, "as many follow events as may at a time")
		return
	}
	defer v.places.leave()
	next := v.enter()
	if next == nil {
		busy(c.w, "the server has ended")
		return
	}
	defer v.leave()
	who := askerOf(c.r)
	control := http.NewResponseController(c.w)
	control.SetReadDeadline(time.Time{}) // that of the request, which has come
	c.w.Header().Set("Content-Type", "text/event-stream")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.Header().Set("X-Accel-Buffering", "no") // or nginx would keep events back
	text := appendEvent([]byte("retry: 1000\n\n"), "hello", a.statsFor(who, a.sampler.now()))
	for {
		control.SetWriteDeadline(time.Now().Add(eventTime))
		if _, err := c.w.Write(text); err != nil {
			return
		}
		if control.Flush() != nil {
			return
		}
		who.alive()
		select {
		case <-next.happened:
			text, next = next.text, next.next
		case <-c.r.Context().Done():
			return
		case <-v.over:
			return
		}
		if !who.mayStill() {
			return
		}
	}
}
