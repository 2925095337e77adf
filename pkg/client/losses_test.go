package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// The lines of losses, and what they mean.
var (
	lossLines = []string{
		"a b\t9\texclusive\theld\tkick\t1500\t16000\t1764000000000001\t10.0.0.1:4000\tweb 1\tdeploy\t0\t0\t-\t10.0.0.9:1 (root)\t-\t12\tx,\"y, z\",\"-\"\t-",
		"a b\t8\tshared\theld\tdisconnect\t1\t2\t3\tunix:3\t-\t-\t0\t0\t-\t-\t-\t0\t-\tpid=12 uid=1000 program=a cron job\ta new field\tand another",
		"\t7\tshared\theld\tdead_peer\t1\t0\t0\tunix:3\t-\t-\t0\t900\t-\t-\t-\t0\t-\t-",
		"a b\t6\texclusive\twaited\twait_timeout\t20\t700\t0\t10.0.0.1:4001#5\tx\t-\t0\t0\t-\t-\tweb 1\t0\t-\t-",
		"-\t5\trate\trefused\trefused\t20\t0\t0\t10.0.0.1:4001\t-\t-\t12\t0\tshare_of_rates\t-\t-\t0\t-\t-",
		"a b\t4\tlease\tlent\tsold\t1\t2\t3\tz\t-\t-\t0\t0\t-\t-\t-\t0\tq\t-",
	}
	lossesWanted = []client.Loss{
		{Name: "a b", Seq: 9, Kind: client.KindExclusive, What: client.LostHeld, Why: client.WhyKick, Ago: 1500 * time.Millisecond, Lasted: 16 * time.Second,
			Token: 1764000000000001, Addr: "10.0.0.1:4000", Registered: "web 1", Identity: "deploy", By: "10.0.0.9:1 (root)", Waiting: 12, Waiters: []string{"x", "y, z", "-"}},
		{Name: "a b", Seq: 8, Kind: client.KindShared, What: client.LostHeld, Why: client.WhyDisconnect, Ago: time.Millisecond, Lasted: 2 * time.Millisecond,
			Count: 3, Addr: "unix:3", Process: &client.Process{PID: 12, UID: 1000, Program: "a cron job"}, Rest: []string{"a new field", "and another"}},
		{Seq: 7, Kind: client.KindShared, What: client.LostHeld, Why: client.WhyDeadPeer, Ago: time.Millisecond, Addr: "unix:3", More: 900},
		{Name: "a b", Seq: 6, Kind: client.KindExclusive, What: client.LostWaited, Why: client.WhyWaitTimeout, Ago: 20 * time.Millisecond, Lasted: 700 * time.Millisecond,
			Addr: "10.0.0.1:4001#5", Registered: "x", Holder: "web 1"},
		{Name: "-", Seq: 5, Kind: client.KindRate, What: client.LostRefused, Why: client.WhyRefused, Ago: 20 * time.Millisecond, Addr: "10.0.0.1:4001", Times: 12, Bound: "share_of_rates"},
		{Name: "a b", Seq: 4, Kind: "lease", What: "lent", Why: "sold", Ago: time.Millisecond, Lasted: 2 * time.Millisecond, Count: 3, Addr: "z", Waiters: []string{"q"}},
	}
)

// A loser asks for losses: a Client or a Locker.
type loser interface {
	Losses(ctx context.Context, n int, name string) ([]client.Loss, error)
}

func loserOf(l looker) loser {
	if c, ok := l.(clientLooker); ok {
		return c.Client
	}
	return l.(lockerLooker).Locker
}

// TestLosses: what the lines mean, and what an older server, one that tells nobody and
// one that does not tell this client say.
func TestLosses(t *testing.T) {
	overLookers(t, func(t *testing.T, l looker, answer func(string, []string, string)) {
		ctx := within(t)
		type result struct {
			losses []client.Loss
			err    error
		}
		done := make(chan result)
		ask := func(n int, name string) {
			go func() {
				var r result
				r.losses, r.err = loserOf(l).Losses(ctx, n, name)
				done <- r
			}()
		}
		ask(10, " a  b ")
		answer("losses 10 a b", lossLines, "1 End")
		r := <-done
		must(t, r.err)
		for i, want := range lossesWanted {
			if i >= len(r.losses) || !reflect.DeepEqual(r.losses[i], want) {
				t.Errorf("got %+v\nwant %+v", r.losses, want)
				break
			}
		}
		ask(0, "")
		answer("losses 100000", nil, "1 End")
		if r := <-done; r.err != nil || len(r.losses) != 0 {
			t.Errorf("of nothing: %v, %v", r.losses, r.err)
		}
		for last, want := range map[string]error{
			"":                      client.ErrNoLosses,
			"0 disabled":            client.ErrDisabled,
			"0 Not Allowed: losses": client.ErrNotAllowed,
		} {
			ask(1, "x")
			answer("losses 1 x", nil, last)
			mustBe(t, (<-done).err, want)
		}
		mustBe(t, client.ErrNoLosses, client.ErrUnsupported)
		for _, bad := range []string{
			"a\tb", strings.Replace(lossLines[0], "\t9\t", "\tnine\t", 1), strings.Replace(lossLines[0], "\t12\t", "\t-12\t", 1),
			lossLines[0][:strings.LastIndexByte(lossLines[0], '\t')],
		} {
			ask(1, "x")
			answer("losses 1 x", []string{bad}, "1 End")
			var reply *client.ReplyError
			if r := <-done; !errors.As(r.err, &reply) {
				t.Errorf("%q: %v", bad, r.err)
			}
		}
		ask(1, "x") // the connection is in step
		answer("losses 1 x", lossLines[:1], "1 End")
		if r := <-done; r.err != nil || len(r.losses) != 1 {
			t.Error(r.losses, r.err)
		}
		for _, n := range []int{-1, 100_001} {
			if _, err := loserOf(l).Losses(ctx, n, ""); !errors.Is(err, client.ErrBadArgument) {
				t.Errorf("%d: %v", n, err)
			}
		}
		if _, err := loserOf(l).Losses(ctx, 1, "x\ny"); !errors.Is(err, client.ErrBadName) {
			t.Error(err)
		}
	})
}

// TestLossesOfServer: what a server tells, to a Client and a Locker.
func TestLossesOfServer(t *testing.T) {
	s, err := server.New(server.Options{})
	must(t, err)
	t.Cleanup(func() { s.Shutdown(context.Background()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	go s.Serve(l)
	ctx := within(t)
	open := func(name string) *client.Client {
		c, err := client.New(client.Options{Target: l.Addr().String(), Name: name})
		must(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	holder := open("deploy, 17")
	for i := range 30 {
		must(t, holder.Get(ctx, fmt.Sprintf("lock %d\xff", i)))
	}
	me, err := holder.Name(ctx)
	must(t, err)
	c := open("")
	must(t, c.Kick(ctx, me.Addr))
	locks, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: l.Addr().String()}})
	must(t, err)
	t.Cleanup(func() { locks.Close() })
	for _, asks := range []loser{c, locks} {
		all, err := asks.Losses(ctx, 20, "")
		must(t, err)
		if len(all) != 20 || all[0].Seq != 30 || all[19].Seq != 11 {
			t.Errorf("%d losses: %+v", len(all), all)
		}
		one, err := asks.Losses(ctx, 20, "lock 7\xff")
		must(t, err)
		if len(one) != 1 || one[0].Name != "lock 7\xff" || one[0].Why != client.WhyKick || one[0].What != client.LostHeld || one[0].Token == 0 ||
			one[0].Addr != me.Addr || one[0].Registered != "deploy, 17" || one[0].By == "" || one[0].Rest != nil {
			t.Errorf("%+v", one)
		}
	}
}
