package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/nylen/lockd/internal/wire"
)

// runCmd runs a command under a lock.
type runCmd struct {
	remote
	Wait      *time.Duration `env:"-" placeholder:"TIME" group:"Lock" help:"How long to wait for the lock and the rate; 0 tries once. Without it: as long as it takes."`
	Shared    bool           `env:"-" group:"Lock" help:"Hold a shared lock, which is another one than the exclusive lock of that name. Any number may hold it, unless --limit says otherwise."`
	Limit     *uint32        `env:"-" placeholder:"N" group:"Lock" help:"With --shared: wait until fewer than N hold it."`
	Rate      rate           `env:"-" placeholder:"N/TIME" group:"Lock" help:"Once the lock is held, also wait for one unit of the rate limiter NAME: at most N starts in TIME, as in 10/1s. To limit only the rate: --shared --rate."`
	Conflict  int            `name:"conflict-exit-code" short:"E" env:"-" placeholder:"CODE" default:"1" group:"Lock" help:"Exit code when the lock was not to be had in time (${default})."`
	KillAfter time.Duration  `placeholder:"TIME" default:"10s" group:"Losing the lock" help:"From TERM to KILL (${default})."`
	LostAfter time.Duration  `placeholder:"TIME" default:"20s" group:"Losing the lock" help:"The lock counts as lost when the server does not answer for so long (${default}). Below 35s: then a server frees the locks of a machine that it cannot reach any more."`

	Lock    lockName   `arg:"" name:"name" help:"The lock."`
	Command []verbatim `arg:"" passthrough:"partial" help:"The command and its arguments. No shell is between."`

	name    string
	command []string
	stderr  *lineQueue
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
so that a store can refuse who comes late. It runs in a process group of its
own, to which TERM, INT, HUP, QUIT, USR1, USR2, TSTP, CONT and WINCH are
forwarded. On a terminal that group gets the terminal while the command runs.

The lock is released when the command ends. What it leaves running in the
background is left alone, and goes on without the lock.

When the lock is lost, because the server is gone or does not answer, the
process group gets TERM and, what is left of it after --kill-after, KILL. When
lockd run itself is killed with -9, its lock is free at once; on Linux the
command is then killed, too, but not what the command started.

Exit codes:

	N        of the command
	128+N    signal N ended the command
	1 or -E  the lock, or the rate, was not to be had in time
	2        wrong usage
	69       the server cannot be reached, refused, or was lost before the start
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
	err := c.remote.Validate()
	if err != nil {
		return err
	}
	c.name = string(c.Lock)
	if _, _, err := c.lineTarget(); err != nil {
		return err
	}
	switch {
	case len(c.command) == 0:
		return errors.New("no command to run: lockd run NAME -- COMMAND")
	case c.command[0] == "":
		return errors.New("the command is empty: lockd run NAME -- COMMAND")
	case c.Limit != nil && (*c.Limit == 0 || *c.Limit > wire.MaxLimit):
		return fmt.Errorf("--limit: must be 1 to %d", uint32(wire.MaxLimit))
	case c.Limit != nil && !c.Shared:
		return errors.New("--limit counts the holders of a shared lock: give --shared, too")
	case c.Wait != nil && *c.Wait < 0:
		return errors.New("--wait: must not be below 0")
	case c.Conflict < 0 || c.Conflict > 255:
		return errors.New("--conflict-exit-code: must be 0 to 255")
	case c.KillAfter < 0:
		return errors.New("--kill-after: must not be below 0")
	case c.LostAfter <= 0:
		return errors.New("--lost-after: must be above 0")
	}
	return nil
}

// errConflict: the lock or the rate was not to be had in time.
type errConflict string

func (e errConflict) Error() string { return string(e) }

// Run does it all. It ends the process itself.
func (c *runCmd) Run() error {
	survivePipes()
	c.stderr = newLineQueue(os.Stderr, func(io.Writer, int64) {})
	path, err := lookup(c.command[0])
	if err != nil { // before waiting for hours
		c.cannotStart("", err)
	}
	quit := make(chan os.Signal, 1) // while there is no command: for Go's stack traces nobody asked
	if !signal.Ignored(syscall.SIGQUIT) {
		signal.Notify(quit, syscall.SIGQUIT)
	}
	go func() {
		<-quit
		exit(exitSignal + int(syscall.SIGQUIT))
	}()
	l, err := connect(&c.remote)
	if err != nil {
		fail(exitUnavailable, err.Error())
	}
	go l.watch(c.LostAfter)
	waiting := time.AfterFunc(time.Second, func() {
		if isTerminal(os.Stderr) {
			c.warn("waiting for " + quote(c.name))
		}
	})
	token, err := c.acquire(l)
	waiting.Stop()
	if conflict := errConflict(""); errors.As(err, &conflict) {
		c.release(l)
		fail(c.Conflict, err.Error())
	} else if err != nil {
		fail(exitUnavailable, err.Error())
	}

	signals := make(chan os.Signal, 64)
	for _, s := range forwarded {
		if !signal.Ignored(s) { // nohup
			signal.Notify(signals, s)
		}
	}
	signal.Stop(quit)
	select {
	case <-l.lost:
		fail(exitUnavailable, fmt.Sprintf("%s: connection lost: %v", c.Server, l.err))
	default:
	}
	// The kernel kills the command when the thread ends that started it.
	runtime.LockOSThread()
	p, err := start(path, c.command, c.environment(token))
	if err != nil {
		c.release(l)
		c.cannotStart(path, err)
	}
	code := c.supervise(l, p, signals)
	p.restore()
	c.release(l)
	c.stderr.flush()
	exit(code)
	return nil
}

// environment returns the command's. What a lockd run around this one has set
// must not shine through.
func (c *runCmd) environment(token uint64) []string {
	var env []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "LOCKD_NAME=") && !strings.HasPrefix(pair, "LOCKD_TOKEN=") {
			env = append(env, pair)
		}
	}
	env = append(env, "LOCKD_NAME="+c.name)
	if token > 0 {
		env = append(env, "LOCKD_TOKEN="+strconv.FormatUint(token, 10))
	}
	return env
}

// acquire gets all that the command needs. The token is 0 if there is none.
func (c *runCmd) acquire(l *link) (token uint64, err error) {
	if !l.sessions && (c.Limit != nil || c.Rate.n > 0) {
		return 0, fmt.Errorf("%s: the server knows neither --limit nor --rate (it speaks protocol 1 only)", c.Server)
	}
	until := deadline{}
	if c.Wait != nil {
		until = deadline{time.Now().Add(*c.Wait), true}
	}
	switch {
	case !l.sessions:
		err = c.poll(l, until)
	case c.Shared:
		err = c.wait(l, until, func(ms int64) string {
			if c.Limit == nil {
				return "sg " + c.name
			}
			return fmt.Sprintf("sgw %d %d %s", *c.Limit, ms, c.name)
		}, nil)
	default:
		err = c.wait(l, until, func(ms int64) string { return fmt.Sprintf("gw %d %s", ms, c.name) }, &token)
	}
	if err == nil && c.Rate.n > 0 {
		err = c.takeRate(l, until)
	}
	return token, err
}

// wait asks for a lock, over again if the wait is longer than a request's may
// be.
func (c *runCmd) wait(l *link, until deadline, request func(ms int64) string, token *uint64) error {
	for {
		part := min(until.left(), maxWait)
		over := time.Now().Add(part)
		number, text, err := l.ask(request(roundUp(part)), 0)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", c.Server, err)
		case c.granted(number, text):
			if token != nil {
				*token = number
			}
			return nil
		case number > 0 || text != wire.GetTimeout+c.name && text != wire.SharedGetTimeout+c.name:
			return fmt.Errorf("%s: %w", c.Server, unexpected(number, text))
		case until.left() == 0:
			return c.conflict()
		}
		// A server that ends waits early is not asked without a pause.
		if err := l.pause(min(time.Until(over), 50*time.Millisecond)); err != nil {
			return fmt.Errorf("%s: %w", c.Server, err)
		}
	}
}

// granted tells whether a reply says that the lock is ours.
func (c *runCmd) granted(number uint64, text string) bool {
	yes, most := wire.GetSuccess, uint64(wire.MaxToken)
	if c.Shared {
		yes, most = wire.SharedGetSuccess, wire.MaxLimit
	}
	return 0 < number && number <= most && text == yes+c.name
}

// unexpected is a reply that means no, or nothing.
func unexpected(number uint64, text string) error {
	if number > 0 {
		text = fmt.Sprintf("%d %s", number, text)
	}
	return refusal(text)
}

// poll gets a lock from a server of protocol 1.
func (c *runCmd) poll(l *link, until deadline) error {
	verb := "g "
	if c.Shared {
		verb = "sg "
	}
	for {
		number, text, err := l.ask(verb+c.name, c.LostAfter)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", c.Server, err)
		case c.granted(number, text):
			return nil
		case number > 0 || text != wire.GetFailure+c.name:
			return fmt.Errorf("%s: %w", c.Server, unexpected(number, text))
		}
		left := until.left()
		if left == 0 {
			return c.conflict()
		}
		pause := 750*time.Millisecond + rand.N(500*time.Millisecond)
		if err := l.pause(min(pause, left)); err != nil {
			return fmt.Errorf("%s: %w", c.Server, err)
		}
	}
}

// takeRate takes a unit of the rate.
func (c *runCmd) takeRate(l *link, until deadline) error {
	request := fmt.Sprintf("rl %d %d 1 %s", c.Rate.n, c.Rate.milliseconds(), c.name)
	for {
		number, text, err := l.ask(request, c.LostAfter)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Server, err)
		}
		if 0 < number && number <= uint64(c.Rate.n) && text == wire.RateAllowed+c.name {
			return nil
		}
		rest, limited := strings.CutPrefix(text, wire.RateLimited)
		ms, rest2, ok := wire.Number([]byte(rest))
		if number > 0 || !limited || !ok || ms > wire.MaxWait || string(rest2) != wire.RateRetry[1:]+c.name {
			return fmt.Errorf("%s: %w", c.Server, unexpected(number, text))
		}
		// As long as the server says, and not without a pause if it says 0.
		retry := max(time.Duration(ms), 1) * time.Millisecond
		if retry > until.left() {
			return errConflict(fmt.Sprintf("%s is over its rate, which opens in %v", quote(c.name), retry))
		}
		if err := l.pause(retry); err != nil {
			return fmt.Errorf("%s: %w", c.Server, err)
		}
	}
}

// pause sleeps as long as the connection stands.
func (l *link) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-l.lost:
		return fmt.Errorf("connection lost: %w", l.err)
	}
}

func (c *runCmd) conflict() error {
	text := quote(c.name) + " is held by others"
	if *c.Wait > 0 {
		text += fmt.Sprintf(", waited %v", *c.Wait)
	}
	return errConflict(text)
}

// deadline is when waiting ends, if it does.
type deadline struct {
	at   time.Time
	ends bool
}

func (d deadline) left() time.Duration {
	if !d.ends {
		return maxWait
	}
	return max(time.Until(d.at), 0)
}

// release gives back what is held before the process ends: the server would
// notice its end, too, but a moment later, when the next command may have
// asked already.
func (c *runCmd) release(l *link) {
	const patience = 5 * time.Second
	switch {
	case l.sessions:
		l.ask("bye", patience)
	case c.Shared:
		l.ask("sr "+c.name, patience)
	default:
		l.ask("r "+c.name, patience)
	}
	l.conn.Close()
}

// supervise stays with the command to its end and returns its exit code.
func (c *runCmd) supervise(l *link, p *process, signals <-chan os.Signal) int {
	lost := l.lost
	var kill <-chan time.Time
	for {
		select {
		case s := <-signals:
			p.forward(s)
		case <-lost:
			lost = nil
			p.terminate()
			c.warn(fmt.Sprintf("lost the lock %s (%v): ending the command, with KILL in %v", quote(c.name), l.err, c.KillAfter))
			kill = time.After(c.KillAfter)
		case <-kill:
			kill = nil
			p.kill()
		case <-p.changed:
			code, ended := p.poll()
			if !ended {
				continue
			}
			if lost == nil {
				p.endGroup(kill)
			}
			return code
		}
	}
}

// warn prints one line. It does not wait for who reads stderr: that may be
// nobody, when a lost lock has to end the command.
func (c *runCmd) warn(text string) { fmt.Fprintln(c.stderr, "lockd:", text) }

// quote spells a name so that it stays one word or phrase on a terminal.
func quote(name string) string { return strconv.Quote(name) }
