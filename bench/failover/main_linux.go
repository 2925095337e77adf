// Command failover measures what clients of a cluster see when a node is killed, and when
// partitions move: which locks are lost, how long nobody gets anything new of what the node
// had, and how long other requests take meanwhile.
//
//	go run ./bench/failover [-locks 100000]
//
// It builds lockd, and starts three nodes and an etcd, which has to be installed, with the
// W and G that a cluster has if nobody says otherwise.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
	"github.com/nylen/lockd/pkg/client"
)

func main() {
	locks := flag.Int("locks", 100000, "how many are held: half by a client that is kept, half by plain clients of other nodes")
	lockd := flag.String("lockd", "", "the program, which else is built")
	flag.Parse()
	if err := run(*locks, *lockd); err != nil {
		fmt.Fprintln(os.Stderr, "failover:", err)
		os.Exit(1)
	}
}

var trace = os.Getenv("TRACE")

// A lab is a cluster.
type lab struct {
	lockd, url string
	addrs      []string
	nodes      []*exec.Cmd
}

func run(locks int, lockd string) error {
	dir, err := os.MkdirTemp("", "lockd-failover")
	if err != nil {
		return err
	}
	if os.Getenv("KEEPLOGS") == "" {
		defer os.RemoveAll(dir)
	}
	if lockd == "" {
		lockd = filepath.Join(dir, "lockd")
		if out, err := exec.Command("go", "build", "-o", lockd, "./cmd/lockd").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	l, end, err := begin(dir, lockd)
	defer end()
	if err != nil {
		return err
	}
	fmt.Printf("three nodes serve: %s\n", strings.Join(l.addrs, ", "))
	kept, plain, err := l.hold(locks)
	if err != nil {
		return err
	}
	defer kept.close()
	fmt.Printf("held: %d locks by a client that is kept, %d by plain clients of the second and the third node\n", len(kept.names), len(plain.names))
	if err := l.move(kept, plain); err != nil {
		return err
	}
	return l.kill(kept, plain)
}

// begin starts all that.
func begin(dir, lockd string) (l *lab, end func(), err error) {
	l = &lab{lockd: lockd}
	var started []*exec.Cmd
	end = func() {
		for _, cmd := range started {
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	start := func(name string, args ...string) error {
		cmd := exec.Command(name, args...)
		log, err := os.Create(filepath.Join(dir, fmt.Sprint(len(started), ".log")))
		if err != nil {
			return err
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			return err
		}
		started = append(started, cmd)
		return nil
	}
	ports := make([]string, 5)
	for i := range ports {
		if ports[i], err = free(); err != nil {
			return l, end, err
		}
	}
	err = start("etcd", "--data-dir", filepath.Join(dir, "etcd"), "--listen-client-urls", "http://"+ports[0], "--advertise-client-urls", "http://"+ports[0],
		"--listen-peer-urls", "http://"+ports[1])
	if err != nil {
		return l, end, err
	}
	l.url = "etcd://" + ports[0] + "/lockd"
	err = until(20*time.Second, func() bool { return exec.Command(lockd, "cluster", "init", "--cluster", l.url).Run() == nil })
	if err != nil {
		return l, end, fmt.Errorf("the cluster cannot be made: %w", err)
	}
	for i, port := range ports[2:] {
		err = start(lockd, "--cluster", l.url, "--node", fmt.Sprint("n", i+1), "--advertise", port, "--tcp", port, "--admin", "off", "--max-share", "off")
		if err != nil {
			return l, end, err
		}
		l.addrs = append(l.addrs, port)
	}
	l.nodes = started[1:]
	return l, end, until(time.Minute, l.even)
}

var errNever = errors.New("it does not happen")

func until(most time.Duration, f func() bool) error {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if f() {
			return nil
		}
	}
	return errNever
}

func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// states returns how many partitions each node has, by its name.
func (l *lab) states() map[string]string {
	out, _ := exec.Command(l.lockd, "cluster", "status", "--cluster", l.url).Output()
	all := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if words := strings.Fields(line); len(words) >= 6 && strings.HasPrefix(words[0], "n") && len(words[0]) == 2 {
			all[words[0]] = words[4] + " " + words[5]
		}
	}
	return all
}

func (l *lab) even() bool {
	serving := 0
	for _, state := range l.states() {
		if n, _, _ := strings.Cut(state, " "); strings.HasSuffix(state, " serving") && n >= "341" && n <= "342" {
			serving++
		}
	}
	return serving == 3
}

// owner asks for the names of a node.
func (l *lab) owner(name string) string {
	out, _ := exec.Command(l.lockd, "cluster", "map", name, "--cluster", l.url).Output()
	_, rest, _ := strings.Cut(string(out), ", which ")
	node, _, _ := strings.Cut(rest, " ")
	return node
}

// A holder has locks.
type holder struct {
	names []string
	lost  atomic.Int64
	whys  sync.Map
	close func()
}

func (l *lab) hold(locks int) (kept, plain *holder, err error) {
	kept, plain = &holder{}, &holder{}
	targets := strings.Join(l.addrs, ",")
	locker, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: targets}, Keep: 15 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	kept.close = func() { locker.Close() }
	for i := range locks / 2 {
		kept.names = append(kept.names, fmt.Sprint("kept", i))
		plain.names = append(plain.names, fmt.Sprint("plain", i))
	}
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	next := make(chan string)
	for range 64 {
		all.Go(func() {
			for name := range next {
				lock, err := locker.TryAcquire(context.Background(), name)
				if err != nil {
					failed.Store(&err)
					continue
				}
				go func() {
					<-lock.Lost()
					if errors.Is(lock.Err(), client.ErrClosed) {
						return
					}
					kept.lost.Add(1)
					if _, known := kept.whys.LoadOrStore(lock.Err().Error(), true); !known {
						fmt.Println("  lost:", lock.Name(), lock.Err())
					}
				}()
			}
		})
	}
	for _, name := range kept.names {
		next <- name
	}
	close(next)
	all.Wait()
	if err := failed.Load(); err != nil {
		return nil, nil, *err
	}
	for i, part := range [][]string{plain.names[:len(plain.names)/2], plain.names[len(plain.names)/2:]} {
		c, err := dial(l.addrs[1+i])
		if err != nil {
			return nil, nil, err
		}
		for _, name := range part {
			for {
				reply, err := c.ask("g " + name)
				if err == nil && strings.HasPrefix(reply, "1 ") {
					break
				}
				if err != nil || !strings.HasPrefix(reply, "0 "+wire.Unavailable) { // that is for whose owner is slow
					return nil, nil, fmt.Errorf("g %s: %s %v", name, reply, err)
				}
			}
		}
		// Its end is a loss of all.
		go func() {
			_, err := c.in.ReadByte()
			_ = err
			plain.lost.Add(int64(len(part)))
		}()
	}
	return kept, plain, nil
}

// A conn speaks protocol 1.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(addr string) (*conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &conn{c, bufio.NewReader(c)}, nil
}

func (c *conn) ask(request string) (string, error) {
	if _, err := c.Write([]byte(request + "\n")); err != nil {
		return "", err
	}
	line, err := c.in.ReadString('\n')
	return strings.TrimSpace(line), err
}

// A watch asks for locks of some nodes all the time, and knows how long the longest answer has
// taken, and the longest time without a lock.
type watch struct {
	stop    chan struct{}
	done    sync.WaitGroup
	began   time.Time
	mu      sync.Mutex
	longest time.Duration
	when    time.Duration // that was over
	gap     time.Duration
	asked   int
	refused int
}

// begin watches the names of some nodes by way of another one.
func (l *lab) watch(by string, names []string) (*watch, error) {
	w := &watch{stop: make(chan struct{}), began: time.Now()}
	for _, name := range names {
		c, err := dial(by)
		if err != nil {
			return nil, err
		}
		w.done.Go(func() {
			last := time.Now()
			for {
				select {
				case <-w.stop:
					return
				default:
				}
				sent := time.Now()
				reply, err := c.ask("g " + name)
				took := time.Since(sent)
				if err != nil {
					return
				}
				got := strings.HasPrefix(reply, "1 ")
				if got {
					released := time.Now()
					c.ask("r " + name)
					took = max(took, time.Since(released))
				}
				w.mu.Lock()
				if trace != "" && took > 30*time.Millisecond {
					fmt.Println("   ", time.Now().Format("15:04:05.000"), name, took, reply)
				}
				if took > w.longest {
					w.longest, w.when = took, time.Since(w.began)
				}
				if got {
					w.gap = max(w.gap, time.Since(last))
					last = time.Now()
				} else {
					w.refused++
				}
				w.asked++
				w.mu.Unlock()
				time.Sleep(time.Millisecond)
			}
		})
	}
	return w, nil
}

func (w *watch) end() {
	close(w.stop)
	w.done.Wait()
}

// owned returns names that some node serves.
func (l *lab) owned(prefix, node string, n int) (names []string) {
	for i := 0; len(names) < n; i++ {
		if name := prefix + strconv.Itoa(i); l.owner(name) == node {
			names = append(names, name)
		}
	}
	return names
}

// held returns how many of some names somebody else can get.
func held(by string, names []string) (free int, err error) {
	c, err := dial(by)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for _, name := range names {
		reply, err := c.ask("g " + name)
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(reply, "1 ") {
			free++
		}
	}
	return free, nil
}

// move drains a node, and lets it have a third again.
func (l *lab) move(kept, plain *holder) error {
	fmt.Println("\na planned move of a third of all partitions, there and back:")
	var names []string
	for i := range 3 {
		names = append(names, l.owned(fmt.Sprint("move", i, "-"), fmt.Sprint("n", i+1), 4)...)
	}
	w, err := l.watch(l.addrs[1], names)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := exec.Command(l.lockd, "cluster", "drain", "n1", "--cluster", l.url).Run(); err != nil {
		return err
	}
	if err := until(time.Minute, func() bool { return strings.HasPrefix(l.states()["n1"], "0 ") }); err != nil {
		return fmt.Errorf("the first node is not drained: %w", err)
	}
	away := time.Since(began)
	if err := exec.Command(l.lockd, "cluster", "drain", "n1", "--undo", "--cluster", l.url).Run(); err != nil {
		return err
	}
	if err := until(time.Minute, l.even); err != nil {
		return fmt.Errorf("the first node gets nothing back: %w", err)
	}
	took := time.Since(began)
	w.end()
	freed := 0
	for _, names := range [][]string{kept.names, plain.names} {
		n, err := held(l.addrs[2], names)
		if err != nil {
			return err
		}
		freed += n
	}
	fmt.Printf("  away after %.1f s, back after %.1f s; locks lost: %d kept, %d plain, free at a node: %d\n", away.Seconds(), took.Seconds(), kept.lost.Load(), plain.lost.Load(), freed)
	fmt.Printf("  %d requests meanwhile, %d refused; the longest answer took %.1f ms, until %.1f s; the longest time without the lock was %.1f ms\n",
		w.asked, w.refused, w.longest.Seconds()*1e3, w.when.Seconds(), w.gap.Seconds()*1e3)
	return nil
}

// kill ends a node.
func (l *lab) kill(kept, plain *holder) error {
	fmt.Println("\nkill -9 of the first node:")
	fresh := l.owned("fresh", "n1", 1)[0]
	others, err := l.watch(l.addrs[1], append(l.owned("other2-", "n2", 4), l.owned("other3-", "n3", 4)...))
	if err != nil {
		return err
	}
	c, err := dial(l.addrs[2])
	if err != nil {
		return err
	}
	if err := l.nodes[0].Process.Kill(); err != nil {
		return err
	}
	began := time.Now()
	for {
		reply, err := c.ask("g " + fresh)
		if err != nil {
			return err
		}
		if strings.HasPrefix(reply, "1 ") {
			break
		}
		if time.Since(began) > 2*time.Minute {
			return fmt.Errorf("nobody gets %s: %s", fresh, reply)
		}
		time.Sleep(10 * time.Millisecond)
	}
	took := time.Since(began)
	others.end()
	freed := 0
	for _, names := range [][]string{kept.names, plain.names} {
		n, err := held(l.addrs[2], names)
		if err != nil {
			return err
		}
		freed += n
	}
	fmt.Printf("  the first new grant of what it had came after %.1f s; locks lost: %d kept, %d plain, free at a node: %d\n", took.Seconds(), kept.lost.Load(), plain.lost.Load(), freed)
	fmt.Printf("  %d requests to other nodes meanwhile, %d refused; the longest answer took %.1f ms, until %.1f s; the longest time without the lock was %.1f ms\n",
		others.asked, others.refused, others.longest.Seconds()*1e3, others.when.Seconds(), others.gap.Seconds()*1e3)
	return nil
}
