package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/command"
	"github.com/nylen/lockd/pkg/client"
)

// forever is longer than anybody waits.
const forever time.Duration = math.MaxInt64

// longestLine is longer than a name can make one: on Linux an argument has at
// most 128 KiB. What is too long is for the server to say.
const longestLine = 256 << 10

// runCmd runs a command under a lock.
type runCmd struct {
	remote
	Wait           *time.Duration `min:"0" env:"-" placeholder:"TIME" group:"Lock" help:"How long to wait for the lock and the rate, from when the server is reached; 0 tries once. Without it: as long as it takes."`
	ServerPatience *time.Duration `name:"wait-for-server" placeholder:"TIME" group:"Lock" help:"How long the server may be away, at the start and while waiting. Without it: at the start not at all, and while waiting as long as --wait allows."`
	Shared         bool           `env:"-" group:"Lock" help:"Hold a shared lock, which is another one than the exclusive lock of that name. Any number may hold it, unless --limit says otherwise."`
	Limit          *uint32        `max:"4294967294" env:"-" placeholder:"N" group:"Lock" help:"With --shared: wait until fewer than N hold it."`
	Rate           rate           `env:"-" placeholder:"N/TIME" group:"Lock" help:"Once the lock is held, also wait for one unit of the rate limiter NAME: at most N starts in TIME, as in 10/s, 100/5m or, in seconds, 100/60. To limit only the rate: --shared --rate."`
	Conflict       int            `min:"0" max:"255" name:"conflict-exit-code" short:"E" env:"-" placeholder:"CODE" default:"1" group:"Lock" help:"Exit code when the lock was not to be had in time (${default})."`
	Label          label          `name:"name" env:"-" placeholder:"TEXT" group:"Lock" help:"What others see in place of the command's name when they ask who holds the lock, or waits for it."`
	KillAfter      time.Duration  `min:"0" placeholder:"TIME" default:"10s" group:"Losing the lock" help:"From TERM to KILL (${default})."`
	LostAfter      time.Duration  `placeholder:"TIME" default:"20s" group:"Losing the lock" help:"The lock counts as lost when the server does not answer for so long (${default}), and earlier if the server would free it in less: when there is just time for --kill-after before that."`

	Keep time.Duration `placeholder:"TIME" group:"Losing the lock" help:"For how long the lock survives without a connection to the server, which may be restarted meanwhile. The server has to keep it for --kill-after longer, and a little, or lockd run refuses. Without it: the lock is lost with the connection."`

	emptyName
	Lock    lockName   `arg:"" name:"name" help:"The lock."`
	Command []verbatim `arg:"" passthrough:"partial" complete:"program" help:"The command and its arguments. No shell is between."`

	name    string
	command []string
	stderr  *lineQueue
	holds   atomic.Bool // the command runs, or is about to
}

// Help is printed by kong below the summary.
func (*runCmd) Help() string {
	return `Waits for the lock, runs the command, and releases the lock when it ends:

	lockd run nightly -- make report
	lockd run deploy --wait 0 -E 75 -- ./deploy web
	lockd run resize --shared --limit 5 --wait 30s -- convert a.png b.jpg
	lockd run mail --shared --rate 10/1s -- sendmail -t

The command gets LOCKD_NAME and, with an exclusive lock, LOCKD_TOKEN in its
environment. That is the fencing token: a number that grows with every grant,
so that a store can refuse who comes late. Where this one's token and key are
(LOCKD_TOKEN_FILE, LOCKD_CLIENT_CERT, LOCKD_CLIENT_KEY) it is not told. It runs in a process group of its
own, to which TERM, INT, HUP, QUIT, USR1, USR2, TSTP, CONT and WINCH are
forwarded; the first four wake it if it is stopped. It starts with the signals
ignored and blocked that lockd run was started with (on other systems than
Linux, of what is ignored only HUP and INT).

On a terminal that group gets the terminal while the command runs, or when it
first asks for it. Ctrl-Z stops lockd run, too. If Ctrl-C ends the command, the
caller gets it as well, so that a script does not go on. Of a command that
catches it and exits by itself, with 130 for instance, the code is all that the
caller gets.

While it waits, stderr tells for whom: who holds the lock, since when, and how
many wait before. On a terminal that is one line, which goes away, in a log a
line now and then. (lockd inspect NAME tells more.) Others see this process as
USER@HOST PID COMMAND, or --name in place of COMMAND; no arguments.

Who waits holds nothing, so a restart of the server takes nothing away: lockd
run connects again, and waits on at the end of the line. --wait is the time over
all, from when the server was reached first. A server that is not there at the
start is an error at once, unless --wait-for-server says for how long it may be
away.

The lock is released when the command ends. What it leaves running in the
background is left alone, and goes on without the lock.

With --keep 15s, the lock outlives the connection for 15 s: when the network has a
blip, a balancer is reloaded or the server is restarted (with --state FILE), lockd
run comes back to its lock, or to its place in line, and says so on stderr; the
command does not notice. Of several servers it goes to another one, if need be. The lock is lost when that takes longer, or when the server
knows nothing of it any more. The price: when lockd run itself is killed with -9, the
lock is free some 30 s and --kill-after later, not at once. --lost-after is then how
long the server may be silent until lockd run tries another connection.

When the lock is lost, because the server is gone or does not answer, the
process group gets TERM and, what is left of it after --kill-after, KILL. (On
Windows, which has neither, the command is ended at once, without a TERM before
it, and what it started goes on.) When lockd run itself is killed with -9, its
lock is free at once; on Linux the command is then killed, too, but not what the
command started. Neither works with a command that runs as another user, as sudo
does: then lockd run says that the command goes on without the lock, and with
which process, until it ends.

Exit codes:

	N        of the command
	128+N    signal N ended the command (Ctrl-C ends lockd run by SIGINT)
	1 or -E  the lock, or the rate, was not to be had in time
	2        wrong usage
	69       the server cannot be reached, refused, or was away when the time
	         of --wait or --wait-for-server was up
	126      the command cannot be executed
	127      the command was not found

An older server (glockd, lockd for Node.js) knows no waiting: it is asked once
a second, in no order, LOCKD_TOKEN is not set, --limit and --rate fail.`
}

// Validate is called by kong.
func (c *runCmd) Validate() error {
	c.command = nil
	for _, word := range c.Command {
		c.command = append(c.command, string(word))
	}
	if len(c.command) > 0 && c.command[0] == "--" {
		c.command = c.command[1:]
	}
	if err := c.remote.Validate(); err != nil {
		return err
	}
	c.name = string(c.Lock)
	switch {
	case len(c.command) == 0:
		return errors.New("no command to run: lockd run NAME -- COMMAND")
	case c.command[0] == "":
		return errors.New("the command is empty: lockd run NAME -- COMMAND")
	case c.Limit != nil && !c.Shared:
		return errors.New("--limit counts the holders of a shared lock: give --shared, too")
	}
	return nil
}

// Run does it all. It ends the process itself.
func (c *runCmd) Run() error {
	caller := command.Inherit()
	survivePipes()
	c.stderr = newLineQueue(os.Stderr, func(io.Writer, int64) {})
	path, err := lookup(c.command[0])
	if err != nil { // before waiting for hours
		c.cannotStart("", err)
	}
	opts := c.options()
	opts.MaxLine, opts.Name, opts.ReadTimeout = longestLine, c.registered(), c.LostAfter
	locker, err := client.NewLocker(client.LockerOptions{
		Options: opts, StopTime: c.KillAfter, FailFast: true, Keep: c.Keep, OnKeep: c.tellKept,
		NoMap: true, // for one lock, one connection
	})
	if err != nil {
		return err
	}
	w := c.newWaiting(locker)
	stop := caller.EndOnSignal(func() {
		w.news.stop()
		c.leave(locker)
	}, exit)
	lock, err := w.acquire()
	w.news.stop()
	if err != nil {
		stop() // which tells a signal's end of all this from others
		c.leave(locker)
		code := exitUnavailable
		if errors.As(err, new(errConflict)) {
			code = c.Conflict
		}
		fail(code, c.explain(err))
	}

	c.holds.Store(true)
	select {
	case <-lock.Lost():
		stop()
		c.leave(locker)
		fail(exitUnavailable, c.explain(lock.Err()))
	default:
	}
	stop()
	c.hide()
	cmd, err := command.Start(caller, command.Spec{
		Path: path, Args: c.command, Env: c.environment(lock.Token()), Warn: c.warn,
	})
	if err != nil {
		release(lock)
		c.leave(locker)
		c.cannotStart(path, err)
	}
	c.supervise(lock, cmd)
	release(lock)
	c.leave(locker)
	c.stderr.flush()
	cmd.Interrupted(caller)
	exit(cmd.Code())
	return nil
}

// registered is the name that others see.
func (c *runCmd) registered() string {
	if c.Label != "" {
		return registered(string(c.Label))
	}
	return registered(program(c.command[0]))
}

// environment returns the command's. What a lockd run around this one has set
// must not shine through, nor where this one's secrets are.
func (c *runCmd) environment(token uint64) []string {
	hidden := append([]string{"LOCKD_NAME", "LOCKD_TOKEN"}, secretVariables...)
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !slices.ContainsFunc(hidden, func(h string) bool { return strings.EqualFold(h, name) }) { // as Windows has it
			env = append(env, pair)
		}
	}
	env = append(env, "LOCKD_NAME="+c.name)
	if token > 0 {
		env = append(env, "LOCKD_TOKEN="+strconv.FormatUint(token, 10))
	}
	return env
}

// why says why a connection was lost.
func (c *runCmd) why(err error) error {
	var silence interface{ Silent() time.Duration }
	var away interface{ Away() time.Duration }
	switch {
	case errors.As(err, &away):
		return fmt.Errorf("no connection to the server for %v", shortly(away.Away()))
	case errors.Is(err, client.ErrForgotten):
		return errors.New("the server has not kept it")
	case errors.Is(err, client.ErrRevoked):
		return errors.New("the server has taken it away")
	case errors.As(err, &silence):
		return fmt.Errorf("the server has been silent for %v", silence.Silent())
	case errors.Is(err, client.ErrTimeout):
		return fmt.Errorf("the server has been silent for %v", c.LostAfter)
	}
	return plainly(err, c.LostAfter)
}

// release gives back what is held before the process ends: the server would
// notice its end, too, but a moment later, when the next command may have
// asked already.
func release(lock *client.Lock) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	lock.Release(ctx)
}

// leave tells the server that nothing is to be kept any more. Who is not kept is gone
// with its connection.
func (c *runCmd) leave(locker *client.Locker) {
	if c.Keep > 0 {
		locker.Close()
	}
}

// tellKept says what becomes of the connection while the lock is held.
func (c *runCmd) tellKept(e client.KeepEvent) {
	if !c.holds.Load() {
		return
	}
	back := fmt.Sprintf("connected again after %v", shortly(e.Span))
	switch {
	case e.Kind == client.KeepBlip:
		c.warn(fmt.Sprintf("connection%s lost (%v): the lock %s is kept for another %v, in which to connect again", c.toWhich(e.Target), c.why(e.Err), quote(c.name), shortly(e.Span)))
	case e.Lost > 0: // which supervise says
	case e.Kind == client.KeepResumed:
		c.warn(fmt.Sprintf("%s: the lock %s is still held", back, quote(c.name)))
	case e.Kind == client.KeepMoved:
		c.warn(fmt.Sprintf("%s, to %s instead of %s: the lock %s is still held", back, place(e.Target), place(e.From), quote(c.name)))
	case e.Kind == client.KeepRecovered:
		c.warn(fmt.Sprintf("%s: the server was restarted, and the lock %s is still held", back, quote(c.name)))
	}
}

// toWhich names the one of several servers that it is about.
func (c *runCmd) toWhich(target string) string {
	if all, _ := client.Targets(string(c.Server)); len(all) < 2 {
		return ""
	}
	return " to " + place(target)
}

// place spells a target as most people write it.
func place(target string) string { return strings.TrimPrefix(target, "tcp://") }

// shortly spells a time for those who need not know it exactly.
func shortly(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// supervise stays with the command to its end and, when the lock is lost, to
// that of all that it started and that can be ended.
func (c *runCmd) supervise(lock *client.Lock, cmd *command.Command) {
	lost := lock.Lost()
	var kill, look <-chan time.Time
	var again pause
	for {
		select {
		case s := <-cmd.Signals():
			c.warnOf(cmd.Forward(s))
		case <-lost:
			lost = nil
			c.warn(fmt.Sprintf("lost the lock %s (%v): ending the command, with KILL in %v", quote(c.name), c.why(lock.Err()), c.KillAfter))
			c.warnOf(cmd.Terminate())
			kill = time.After(c.KillAfter)
		case <-kill:
			err := cmd.Kill()
			if err == nil && again == 0 {
				kill = time.After(again.next()) // it takes a moment
				break
			}
			if left := cmd.Left(); len(left) > 0 {
				c.warn(fmt.Sprintf("still running without the lock %s: %s (%s)", quote(c.name), processes(left), outcome(err)))
				if cmd.Poll() {
					return // its exit code is known, and more cannot be done
				}
			}
			again = max(again, pause(time.Second))
			kill = time.After(again.next())
		case <-cmd.Changed():
		case <-look:
		}
		switch {
		case !cmd.Poll():
		case lost != nil || len(cmd.Left()) == 0:
			return
		default:
			look = time.After(50 * time.Millisecond)
		}
	}
}

// A pause is how long to wait before it is said again that the command runs
// on: at first only as long as it takes to be killed, then longer each time.
type pause time.Duration

func (p *pause) next() time.Duration {
	switch *p {
	case 0:
		*p = pause(time.Second)
	case pause(time.Second):
		*p = pause(10 * time.Second)
	default:
		*p = min(2**p, pause(5*time.Minute))
	}
	return time.Duration(*p)
}

// outcome says what became of a KILL, some time ago or now.
func outcome(err error) string {
	if e := new(command.SignalError); errors.As(err, &e) {
		return "KILL: " + e.Err.Error()
	}
	return "KILL has not ended it"
}

// processes lists some.
func processes(pids []int) string {
	text := "process"
	if len(pids) > 1 {
		text = "processes"
	}
	for i, pid := range pids {
		if i == 10 {
			return fmt.Sprintf("%s and %d more", text, len(pids)-i)
		}
		text += " " + strconv.Itoa(pid)
	}
	return text
}

func (c *runCmd) warnOf(err error) {
	if err != nil {
		c.warn(err.Error())
	}
}

// warn prints one line. It does not wait for who reads stderr: that may be
// nobody, when a lost lock has to end the command.
func (c *runCmd) warn(text string) { fmt.Fprintln(c.stderr, "lockd:", text) }

// quote spells a name so that it stays one word or phrase on a terminal.
func quote(name string) string { return strconv.Quote(name) }
