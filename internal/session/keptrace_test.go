package session

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A racer is a client that is kept, which wants the same lock as the others.
type racer struct {
	t      *testing.T
	h      *Hub
	number int32
	random *rand.Rand
	holder *atomic.Int32 // who believes that it has the lock
	kicked bool          // somebody kicks: then one may lose it before one knows
	addr   atomic.Pointer[string]

	mu   sync.Mutex // guards conn
	conn *keptClient

	key      string
	token    uint64 // 0: it does not hold the lock
	deadline time.Time
	gives    *time.Timer // the lock up, at the deadline
	dials    int
	grants   int
	claims   int
}

const (
	raceK = 50 * time.Millisecond
	raceD = raceK * 95 / 100
)

func (r *racer) leave() { r.holder.CompareAndSwap(r.number, 0) }

// late tells whether it has to give up.
func (r *racer) late() bool { return r.key != "" && !time.Now().Before(r.deadline) }

func (r *racer) giveUp() {
	r.leave()
	r.gives.Stop()
	r.key, r.token = "", 0
	r.drop()
}

func (r *racer) drop() {
	r.mu.Lock()
	c := r.conn
	r.conn = nil
	r.mu.Unlock()
	if c != nil {
		c.end()
	}
}

// say sends a line, and returns "" if the connection is lost before it is answered.
func (r *racer) say(line string) string {
	sent := time.Now()
	got := r.conn.say(line)
	if strings.HasSuffix(got, "<end>") || got == "" {
		r.drop()
		return ""
	}
	if r.late() {
		return got // which is too late to be used
	}
	if d := sent.Add(raceD); r.key != "" {
		r.deadline = d
		r.gives.Reset(time.Until(d))
	}
	return got
}

// connect connects, and tells whether all is as it was.
func (r *racer) connect() bool {
	r.dials++
	addr := fmt.Sprintf("r%d-%d", r.number, r.dials)
	c := dialKept(r.t, r.h, addr)
	r.mu.Lock()
	r.conn = c
	r.mu.Unlock()
	r.addr.Store(&addr)
	if r.key == "" {
		sent := time.Now()
		got := r.say(fmt.Sprintf("0 keep %d", raceK/time.Millisecond))
		if got == "" {
			return false
		}
		words := strings.Fields(got)
		r.key, r.deadline = words[len(words)-1], sent.Add(raceD)
		return true
	}
	got := r.say("0 resume " + r.key)
	switch {
	case got == "":
		return false
	case r.late() || r.kicked && strings.Contains(got, "Unknown Key"):
		r.giveUp()
		return false
	case !strings.Contains(got, " Resumed: "):
		r.t.Errorf("racer %d is told %q, %v before its deadline", r.number, got, time.Until(r.deadline))
		r.giveUp()
		return false
	}
	if r.token != 0 {
		got := r.say(fmt.Sprintf("1 claim %d x", r.token))
		if got == "" || r.late() {
			return false
		}
		if !strings.Contains(got, "Claim Success") {
			r.t.Errorf("racer %d: its claim is answered %q, %v before its deadline", r.number, got, time.Until(r.deadline))
		}
		r.claims++
	}
	return r.say("0 claimed") != ""
}

func (r *racer) run(until time.Time) {
	r.gives = time.AfterFunc(time.Hour, r.leave)
	defer r.gives.Stop()
	for time.Now().Before(until) {
		switch {
		case r.late():
			r.giveUp()
		case r.conn == nil:
			if r.random.IntN(4) == 0 { // it takes its time to come back
				time.Sleep(time.Duration(r.random.Int64N(int64(raceK * 5 / 4))))
			} else {
				r.connect()
			}
		case r.token == 0:
			got := r.say("1 gw 20 x")
			if n := number(got); n != 0 && !r.late() && strings.Contains(got, "Get Success") {
				if old := r.holder.Swap(r.number); old != 0 && !r.kicked {
					r.t.Errorf("racer %d gets what racer %d believes to have", r.number, old)
				}
				r.token = n
				r.grants++
			}
		case r.random.IntN(3) == 0:
			r.token = 0 // not to be claimed
			r.leave()
			r.say("1 r x")
		case r.random.IntN(20) == 0:
			r.leave()
			if r.say("0 bye") != "" {
				r.giveUp()
			} else {
				r.token = 0
			}
		default:
			time.Sleep(time.Duration(r.random.Int64N(int64(raceK / 3))))
			r.say("0 ping")
		}
	}
	r.drop()
	r.leave()
}

// Connections that are cut at any moment, with resumes, expiries, grants and kicks that
// meet: nobody gets what another one believes to have, and nothing is left.
func TestKeptRaces(t *testing.T) {
	for _, kicked := range []bool{false, true} {
		for _, stored := range []bool{false, true} {
			t.Run(fmt.Sprintf("kicked %v, stored %v", kicked, stored), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					cfg := testConfig()
					if stored {
						cfg.Store = new(memStore)
					}
					h := keptHub(t, cfg)
					until := time.Now().Add(10 * time.Second)
					if testing.Short() {
						until = time.Now().Add(time.Second)
					}
					var holder atomic.Int32
					var all sync.WaitGroup
					var racers []*racer
					for i := range 5 {
						r := &racer{
							t: t, h: h, number: int32(i + 1), random: rand.New(rand.NewPCG(uint64(i), 7)), holder: &holder, kicked: kicked,
						}
						racers = append(racers, r)
						all.Go(func() { r.run(until) })
					}
					all.Go(func() { // cuts
						random := rand.New(rand.NewPCG(1, 1))
						for time.Now().Before(until) {
							time.Sleep(time.Duration(random.Int64N(int64(5 * time.Millisecond))))
							r := racers[random.IntN(len(racers))]
							r.mu.Lock()
							c := r.conn
							r.mu.Unlock()
							c.detach()
							if addr := r.addr.Load(); kicked && addr != nil && random.IntN(20) == 0 {
								ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
								h.Kick(ctx, *addr, Kicker{Address: "test"})
								cancel()
							}
						}
					})
					all.Wait()
					time.Sleep(2 * raceK)
					grants, claims := 0, 0
					for _, r := range racers {
						grants, claims = grants+r.grants, claims+r.claims
					}
					if k := h.Kept(); grants < 10 || claims < 10 || k.Resumed < 10 || k.Expired == 0 {
						t.Errorf("%d grants, %d claims, %+v: that tests nothing", grants, claims, k)
					}
					checkNobody(t, h)
					h.Close()
				})
			})
		}
	}
}
