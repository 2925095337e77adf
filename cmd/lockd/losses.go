package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/nylen/lockd/pkg/client"
)

type lossesCmd struct {
	oneshot
	Count  int  `short:"n" env:"-" placeholder:"N" default:"100" help:"How many to show (${default}), the latest."`
	Follow bool `short:"f" env:"-" help:"Go on with those that come, the latest last, until Ctrl-C."`
	Long   bool `short:"l" env:"-" help:"Also the fencing token of an exclusive lock that was held, and how many held a shared one."`
	emptyName
	Names []lockName `arg:"" optional:"" name:"name" help:"Those of these only; NAME* means all names that begin so."`
}

func (*lossesCmd) Help() string {
	return `Shows what clients have lost without having released it, and why: locks, waits
in vain, and requests refused at a bound. The latest come first.

	lockd losses                 what was lost
	lockd losses deploy          what became of the lock
	lockd losses -f 'build *'    as it happens

WHY is one of these:

	disconnect     the client ended its connection, or the network did
	dead_peer      it vanished: its machine, or its network
	kick           somebody kicked it
	shutdown       the server was stopped
	cut_off        the server ended it: out of memory, or it broke the protocol
	keep_expired   it was kept, and did not come back in time
	wait_timeout   it waited for as long as it wanted to
	wait_given_up  it stopped waiting, or its connection ended
	refused        at a bound, which is named behind
	keep_expired   it was kept, and did not come back in time

The server remembers the latest ones, some thousands, until it ends. For all, have
it log them: --log-losses.

Exit codes:

	0   they are shown, be it none
	2   wrong usage
	69  the server cannot be reached, refused, or is too old
	74  it cannot be printed

The JSON document: losses, a list of name, seq (larger with each), kind, lost
(held, waited or refused), why, ago_ms, lasted_ms, token, count (how many held a
shared lock), addr, client, identity, process (pid, uid, program), times (of refusals within a
second), more (so many locks of the client that are not listed), bound, by (who
kicked), holder (who was waited for), waiting and waiters (who waited for the
lock). What there is not is empty, 0 or null. With --follow it is one loss a line.`
}

// Validate is called by kong.
func (c *lossesCmd) Validate() error {
	if err := c.remote.Validate(); err != nil {
		return err
	}
	if c.Count < 1 || c.Count > mostLosses {
		return fmt.Errorf("--count: must be 1 to %d, not %d", mostLosses, c.Count)
	}
	if slices.Contains(c.Names, "") && !c.EmptyName {
		return fmt.Errorf("<name>: %w", errEmptyName)
	}
	return nil
}

// mostLosses is how many a server may be asked for.
const mostLosses = 100_000

// lossDocument is a loss in JSON. Its keys are always there.
type lossDocument struct {
	Name     string           `json:"name"`
	RawName  string           `json:"name_base64,omitempty"`
	Seq      uint64           `json:"seq"`
	Kind     string           `json:"kind"`
	Lost     string           `json:"lost"`
	Why      string           `json:"why"`
	Ago      int64            `json:"ago_ms"`
	Lasted   int64            `json:"lasted_ms"`
	Token    uint64           `json:"token"`
	Count    int              `json:"count"`
	Addr     string           `json:"addr"`
	Client   string           `json:"client"`
	Identity string           `json:"identity"`
	Process  *processDocument `json:"process"`
	Times    int              `json:"times"`
	More     int              `json:"more"`
	Bound    string           `json:"bound"`
	By       string           `json:"by"`
	Holder   string           `json:"holder"`
	Waiting  int              `json:"waiting"`
	Waiters  []string         `json:"waiters"`
}

func documentOfLoss(l client.Loss) lossDocument {
	d := lossDocument{
		Name: l.Name, RawName: raw(l.Name), Seq: l.Seq, Kind: string(l.Kind), Lost: string(l.What), Why: string(l.Why),
		Ago: l.Ago.Milliseconds(), Lasted: l.Lasted.Milliseconds(), Token: l.Token, Count: l.Count,
		Addr: l.Addr, Client: l.Registered, Identity: l.Identity, Times: l.Times, More: l.More,
		Bound: l.Bound, By: l.By, Holder: l.Holder, Waiting: l.Waiting, Waiters: append([]string{}, l.Waiters...),
	}
	if p := l.Process; p != nil {
		d.Process = &processDocument{p.PID, p.UID, p.Program}
	}
	return d
}

func (c *lossesCmd) Run() error {
	if c.Follow {
		return c.follow()
	}
	var found []client.Loss
	err := c.do(func(ctx context.Context, cl *client.Client) (err error) {
		found, err = c.latest(ctx, cl, c.Count)
		return err
	})
	if err != nil {
		return err
	}
	answer := struct {
		Losses []lossDocument `json:"losses"`
	}{[]lossDocument{}}
	for _, l := range found {
		answer.Losses = append(answer.Losses, documentOfLoss(l))
	}
	rows := [][]string{c.header("AGO")}
	for _, l := range found {
		rows = append(rows, c.cells(ago(l.Ago), l))
	}
	if len(found) == 0 {
		rows = [][]string{{"The server knows of no losses" + c.of() + "."}}
	}
	return c.print(answer, rows)
}

func (c *lossesCmd) of() string {
	var names []string
	for _, n := range c.Names {
		names = append(names, plain(string(n)))
	}
	if len(names) == 0 {
		return ""
	}
	return " of " + strings.Join(names, " or ")
}

// latest asks for the latest losses of the names, up to n, the latest first.
func (c *lossesCmd) latest(ctx context.Context, cl *client.Client, n int) (found []client.Loss, err error) {
	ask, some := []string{""}, n
	all := patterns(c.Names)
	switch {
	case len(c.Names) == 0:
	case slices.ContainsFunc(all, func(p pattern) bool { return p.prefix || p.text == "" }):
		some = mostLosses // a server looks for one name, or for none
	default:
		ask = ask[:0]
		for _, p := range all {
			ask = append(ask, p.text)
		}
	}
	for _, name := range ask {
		losses, err := cl.Losses(ctx, some, name)
		if errors.Is(err, client.ErrNoLosses) {
			return nil, errors.New("the server is too old to tell what was lost")
		} else if err != nil {
			return nil, unless("--disable-dump", err)
		}
		for _, l := range losses {
			if len(c.Names) == 0 || l.More == 0 && slices.ContainsFunc(all, func(p pattern) bool { return p.matches(l.Name) }) {
				found = append(found, l)
			}
		}
	}
	slices.SortFunc(found, func(a, b client.Loss) int { return cmp.Compare(b.Seq, a.Seq) })
	found = slices.CompactFunc(found, func(a, b client.Loss) bool { return a.Seq == b.Seq }) // of a name that was given twice
	return found[:min(n, len(found))], nil
}

// followEvery is how often it asks, and oneRefusal for how long a refusal may become
// more: the server counts those of a client within a second as one.
const (
	followEvery = time.Second
	oneRefusal  = 1200 * time.Millisecond
)

// follow shows those that there are, the latest last, and goes on.
func (c *lossesCmd) follow() error {
	return c.do(func(ctx context.Context, cl *client.Client) error {
		ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
		defer stop()
		var table columns
		if !c.JSON {
			table.print(c.header("TIME"))
		}
		last := uint64(0)
		for first := true; stdout.err == nil; first = false {
			found, err := c.since(ctx, cl, last, first)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			for _, l := range found {
				if l.What == client.LostRefused && l.Ago < oneRefusal {
					break // with the next ones
				}
				last = l.Seq
				if c.JSON {
					text, _ := encode(documentOfLoss(l)) // it has nothing that cannot be encoded
					fmt.Fprintln(stdout, text)
				} else {
					table.print(c.cells(time.Now().Add(-l.Ago).Format(time.TimeOnly), l))
				}
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(followEvery):
			}
		}
		return nil
	})
}

// since returns those that came after one, the latest last; at first as many as were
// asked for.
func (c *lossesCmd) since(ctx context.Context, cl *client.Client, last uint64, first bool) (found []client.Loss, err error) {
	for n := c.Count; ; n = min(10*n, mostLosses) {
		if found, err = c.latest(ctx, cl, n); err != nil {
			return nil, err
		}
		if first || n == mostLosses || len(found) < n || found[n-1].Seq <= last {
			break
		}
	}
	found = slices.DeleteFunc(found, func(l client.Loss) bool { return l.Seq <= last })
	slices.Reverse(found)
	return found, nil
}

func (c *lossesCmd) header(when string) []string {
	cells := []string{when, "NAME", "KIND", "LOST", "WHY", "ADDR", "CLIENT", "DETAILS"}
	if c.Long {
		cells = slices.Insert(cells, 4, "TOKEN/COUNT")
	}
	return cells
}

func (c *lossesCmd) cells(when string, l client.Loss) []string {
	name := plain(l.Name)
	if l.More > 0 {
		name = fmt.Sprintf("(%d more)", l.More)
	}
	cells := []string{when, name, plain(string(l.Kind)), lostCell(l), plain(string(l.Why)), plain(l.Addr), loserCell(l), lossDetails(l)}
	if c.Long {
		number := unknown
		if n := max(l.Token, uint64(l.Count)); n > 0 {
			number = strconv.FormatUint(n, 10)
		}
		cells = slices.Insert(cells, 4, number)
	}
	return cells
}

// lostCell is what was lost, and for how long it was there.
func lostCell(l client.Loss) string {
	switch {
	case l.What == client.LostRefused && l.Times > 1:
		return fmt.Sprintf("%d requests", l.Times)
	case l.What == client.LostRefused && l.Lasted == 0:
		return "request"
	case l.More > 0:
		return plain(string(l.What))
	}
	return plain(string(l.What)) + " " + lasted(l.Lasted)
}

// lasted spells for people how long something has lasted that may be short.
func lasted(d time.Duration) string {
	if d < time.Second {
		return d.Truncate(time.Millisecond).String()
	}
	return ago(d)
}

// loserCell is who has lost it, besides the address.
func loserCell(l client.Loss) string {
	name := l.Registered
	if i := strings.LastIndexByte(l.Addr, '#'); i >= 0 {
		name = strings.TrimSuffix(name, l.Addr[i:])
	}
	switch {
	case name != "" && l.Identity != "":
		return plain(name) + " (" + plain(l.Identity) + ")"
	case l.Identity != "":
		return "(" + plain(l.Identity) + ")"
	case name != "":
		return plain(name)
	case l.Process != nil:
		return processText(*l.Process)
	}
	return unknown
}

// lossDetails is all else, in words.
func lossDetails(l client.Loss) string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if l.By != "" {
		add("by %s", plain(l.By))
	}
	if l.Bound != "" {
		add("%s", plain(l.Bound))
	}
	if l.Holder != "" {
		add("held by %s", plain(l.Holder))
	}
	if l.Waiting > 0 {
		var who []string
		for _, w := range l.Waiters {
			who = append(who, plain(w))
		}
		text := fmt.Sprintf("%d waited", l.Waiting)
		if len(who) > 0 {
			text += ": " + strings.Join(who, ", ")
		}
		if l.Waiting > len(who) && len(who) > 0 {
			text += " ..."
		}
		all = append(all, text)
	}
	if len(all) == 0 {
		return unknown
	}
	return strings.Join(all, ", ")
}

// columns are those of a table whose rows come one by one: as wide as the widest cell
// until then.
type columns []int

func (c *columns) print(cells []string) {
	var b strings.Builder
	for i, cell := range cells {
		b.WriteString(cell)
		if i == len(cells)-1 {
			break
		}
		if i == len(*c) {
			*c = append(*c, 0)
		}
		width := utf8.RuneCountInString(cell)
		if width <= widest {
			(*c)[i] = max((*c)[i], width)
		}
		b.WriteString(strings.Repeat(" ", max((*c)[i]-width, 0)+2))
	}
	fmt.Fprintln(stdout, b.String())
}
