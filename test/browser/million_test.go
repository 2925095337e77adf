package browser

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// With a million locks the page shows some of them, finds any, and is of no concern
// to clients: their latencies, with and without people who look, are in the log.
func TestMillion(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a million locks")
	}
	const total, holders = 1_000_000, 20
	s := start(t, server.Options{MaxShare: []string{"off"}})
	var all sync.WaitGroup
	for h := range holders {
		c := s.client(fmt.Sprintf("holder-%d", h))
		all.Go(func() {
			go func() {
				w := bufio.NewWriter(c)
				for i := h; i < total; i += holders {
					fmt.Fprintf(w, "g million/%07d\n", i)
				}
				w.Flush()
			}()
			for range total / holders {
				if got, err := c.reply(); err != nil || !strings.HasPrefix(got, "1 ") {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	all.Wait()
	waiter := s.client("waiter")
	waiter.send("gw 600000 million/0777777")
	s.client("").waits("million/0777777", 1)
	t.Logf("without anybody who looks: %s", s.latency())

	var viewers []*tab
	for _, hash := range []string{"#/locks", "#/locks?sort=oldest", "#/locks?holder=holder-7", "#/clients", "#/"} {
		p := open(t, desk, s.url(hash))
		p.live()
		viewers = append(viewers, p)
	}
	p := viewers[0]
	p.text("main tbody", "million/0777777") // the longest queue
	p.text(".summary", "1,000,000 exclusive locks")
	t.Logf("with %d who look: %s", len(viewers), s.latency())

	p.fill("[data-search]", "million/012345")
	took := p.wait(`document.querySelectorAll("main tbody tr").length === 10 && document.querySelector("main tbody").textContent.includes("million/0123459")`)
	t.Logf("a search by prefix took %v", took.Round(time.Millisecond))
	if got := p.rows(); len(got) != 10 || !slices.IsSorted(got) || got[0] != "million/0123450" {
		t.Errorf("the search found %q", got)
	}
	viewers[2].wait(`document.querySelectorAll("main tbody tr").length === 100`)
	viewers[3].text("main tbody", "50,000")
	for i, v := range viewers {
		if n := eval[int](v, `document.querySelectorAll("tr").length`); n > 250 {
			t.Errorf("view %d has %d rows", i, n)
		}
	}
	// The view of one, and of one who holds 50,000.
	p.view("#/lock/million%2F0777777")
	p.text(".facts", "1 waiting")
	v := viewers[3]
	eval[any](v, `[...document.querySelectorAll("main tbody tr")].find((tr) => tr.textContent.includes("holder-3")).querySelector("a").click(), 0`)
	v.text(".facts", "50,000")
	v.wait(`document.querySelectorAll("section:has(#holds) tbody tr").length > 0`)
	if n := eval[int](v, `document.querySelectorAll("tr").length`); n > 250 {
		t.Errorf("one client's view has %d rows", n)
	}
	v.text("main .more", "more")
	v.button("Kick…")
	v.text("dialog", "It loses 50,000 locks")
	v.button("Cancel")
	v.wait(`!document.querySelector("dialog")`)
}

// latency asks for locks for a while, and tells how long that took.
func (r *running) latency() string {
	r.Helper()
	const n = 5000
	conn, err := net.Dial("tcp", r.addr("tcp"))
	if err != nil {
		r.Fatal(err)
	}
	defer conn.Close()
	c := &client{r.T, conn, bufio.NewReader(conn)}
	times := make([]time.Duration, 0, n)
	for began := time.Now(); len(times) < n && time.Since(began) < 15*time.Second; time.Sleep(time.Millisecond) {
		at := time.Now()
		c.ask("g latency", "1 ")
		times = append(times, time.Since(at))
		c.ask("r latency", "1 ")
	}
	slices.Sort(times)
	at := func(part float64) time.Duration {
		return times[int(float64(len(times)-1)*part)].Round(time.Microsecond)
	}
	return fmt.Sprintf("%d requests, median %v, 99 %% within %v, longest %v", len(times), at(0.5), at(0.99), at(1))
}
