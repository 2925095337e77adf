package cluster_test

import (
	"os"
	"testing"
	"time"
)

const w = 1500 * time.Millisecond

// TestMembers: members come, one dies, one leaves, one joins, over an etcd of three
// members whose leader is killed meanwhile.
func TestMembers(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 3, nil)
	s := newCluster(t, e, w)
	a, b, c := e.member(t, "a"), e.member(t, "b"), e.member(t, "c")
	eventually(t, "even", even(t, s, a, b, c))

	e.stop(e.leader())
	d := e.member(t, "d")
	eventually(t, "even without etcd's leader", even(t, s, a, b, c, d))

	c.kill()
	begun := time.Now()
	eventually(t, "even after a death", even(t, s, a, b, d))
	if took := time.Since(begun); took < w {
		t.Errorf("it was deleted after %v", took)
	}
	moved := a.Health().Moves + b.Health().Moves + d.Health().Moves
	if err := d.Leave(soon(t), true); err != nil {
		t.Error(err)
	}
	if h := d.Health(); d.Right() != 0 || h.Moves == 0 {
		t.Errorf("it has left: right %v, %+v", d.Right(), h)
	}
	eventually(t, "even after a leave", even(t, s, a, b))
	if moved == 0 {
		t.Error("nothing was moved to who joined")
	}
	for _, m := range []*member{a, b} {
		m.host.mu.Lock()
		if m.host.deposed > 0 || m.host.older > 0 {
			t.Errorf("deposed %d times, %d older maps", m.host.deposed, m.host.older)
		}
		m.host.mu.Unlock()
	}
	if n := a.Health().Deletions + b.Health().Deletions + d.Health().Deletions; n > 1 {
		t.Errorf("%d were deleted, one was dead", n)
	}
}

// TestEtcdAway: etcd is stopped for W + 2 s. Nobody is deleted, nothing moves, and all
// have their right again.
func TestEtcdAway(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 1, nil)
	s := newCluster(t, e, w)
	a, b := e.member(t, "a"), e.member(t, "b")
	eventually(t, "even", even(t, s, a, b))
	before, err := s.Read(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	e.stop(0)
	time.Sleep(w + 2*time.Second)
	for _, m := range []*member{a, b} {
		if h := m.Health(); h.Right > 0 || h.LastError == "" {
			t.Errorf("without etcd: %+v", h)
		}
	}
	e.startAll()
	eventually(t, "there again", func() bool { return a.Health().Right > 0 && b.Health().Right > 0 })
	time.Sleep(2 * w)
	after, err := s.Read(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(after.Nodes) != 2 || after.Map.Encode() != before.Map.Encode() {
		t.Errorf("%d nodes, map %d after %d", len(after.Nodes), after.Map.Version, before.Map.Version)
	}
	for _, m := range []*member{a, b} {
		if h := m.Health(); h.Deposed > 0 || h.Deletions > 0 || h.WithoutRight < time.Second {
			t.Errorf("after it: %+v", h)
		}
	}
}

// TestRestored: etcd comes back from what it was some time ago. All drop everything,
// join anew, and share the partitions again.
func TestRestored(t *testing.T) {
	t.Parallel()
	e := newEnsemble(t, 1, nil)
	s := newCluster(t, e, w)
	a, b := e.member(t, "a"), e.member(t, "b")
	eventually(t, "even", even(t, s, a, b))
	was := a.Self()
	e.stop(0)
	saved := e.path(0) + "-saved"
	copyDir(t, e.path(0), saved)
	e.startAll()
	c := e.member(t, "c")
	eventually(t, "even", even(t, s, a, b, c))
	e.stop(0)
	time.Sleep(w + w/2)
	if err := os.RemoveAll(e.path(0)); err != nil {
		t.Fatal(err)
	}
	copyDir(t, saved, e.path(0))
	e.startAll()
	eventually(t, "even after it", even(t, s, a, b, c))
	if a.Self() == was || a.Health().Deposed != 1 || c.Health().Deposed != 1 {
		t.Errorf("ID %s after %s, deposed %d and %d times", a.Self(), was, a.Health().Deposed, c.Health().Deposed)
	}
}
