package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/state"
)

// stateCmd makes and shows the file that serve has with --state.
type stateCmd struct {
	New  stateNewCmd  `cmd:"" help:"Make the file for a first start, which need not wait for anybody then."`
	Show stateShowCmd `cmd:"" help:"Show what is in it."`
}

type stateNewCmd struct {
	File        string        `arg:"" placeholder:"FILE" help:"The file. There must be none yet."`
	TokensAbove uint64        `env:"-" placeholder:"N" help:"Have the server's fencing tokens be above N: another server, or a cluster, has given tokens up to that."`
	FromCluster filled        `env:"-" placeholder:"URL" help:"Have them be above all that the cluster has given which this etcd keeps: etcd://HOST:PORT[,HOST:PORT...]/PREFIX. Its nodes must have ended."`
	InPlaceOf   filled        `env:"-" placeholder:"OLD" help:"Have them be above all that OLD allows, this server's last file, and forget whom it kept: for when nobody holds anything any more, and the server shall not wait."`
	Timeout     time.Duration `env:"-" placeholder:"TIME" default:"5s" help:"With --from-cluster, how long etcd may take to answer (${default})."`
	ensemble
}

// Validate is called by kong.
func (c *stateNewCmd) Validate() error {
	if err := checkTokens(c.TokensAbove); err != nil {
		return err
	}
	if c.InPlaceOf != "" && (c.TokensAbove > 0 || c.FromCluster != "") {
		return errors.New("--in-place-of is for a server that waits for nobody, and --tokens-above and --from-cluster are for one that has to")
	}
	if err := c.open(c.FromCluster); err != nil {
		return errors.New(strings.ReplaceAll(err.Error(), "--cluster: ", "--from-cluster: "))
	}
	return nil
}

func (*stateNewCmd) Help() string {
	return `A server that finds no state file waits, before it gives anybody anything new,
for as long as clients of an earlier one may believe in what they held:
--dead-peer-timeout or --max-keep, whichever is longer. Where there was no
earlier one, this saves that time:

	lockd state new /var/lib/lockd/state
	lockd --state /var/lib/lockd/state

Make it as the server's user, whose own it has to be. Don't make one in the place
of a file that was lost: then that time is needed, and tokens may have been ahead
of the clock (as after a cluster), which only the lost file knew.

Where nobody holds anything any more, and the server is not to wait for those whom
it has kept, move the file away, and have the new one go on with its tokens:

	mv /var/lib/lockd/state /var/lib/lockd/state.old
	lockd state new /var/lib/lockd/state --in-place-of /var/lib/lockd/state.old

With --tokens-above or --from-cluster there was somebody before. So the server's
tokens are larger, whatever its clock shows, and it waits when it starts, as without
a file, or 1.1 times the cluster's G if that is longer. All nodes must have ended: it
is refused while one lives, and takes 1.1 W after one was killed, to see whether it
does. Nothing keeps nodes from starting again later: see to that before.

Exit codes:

	0   the file is made
	1   it cannot be made, or there is one already; there is no such cluster, or
	    nodes of it live
	2   wrong usage
	69  etcd cannot be reached, or refuses`
}

func (c *stateNewCmd) Run() error {
	if c.InPlaceOf != "" {
		return state.NewInPlaceOf(c.File, string(c.InPlaceOf))
	}
	if c.TokensAbove == 0 && c.FromCluster == "" {
		return state.New(c.File)
	}
	if err := state.Free(c.File); err != nil { // before anybody waits
		return err
	}
	floor, lasts := uint64(0), time.Duration(0)
	if c.TokensAbove > 0 {
		floor = c.TokensAbove + 1
	}
	if c.FromCluster != "" {
		a := administration{Cluster: c.FromCluster, ensemble: c.ensemble, Timeout: c.Timeout}
		v := a.readEnded()
		floor, lasts = max(floor, v.TokensBelow()), v.Conf.Recovery()
	}
	if floor > cluster.MaxBase {
		return fmt.Errorf("the cluster's tokens go up to %d: no server could give larger ones for long, which have to stay below 2^53", floor)
	}
	return state.NewAfter(c.File, floor, lasts)
}

// checkTokens tells whether there is room above a number.
func checkTokens(above uint64) error {
	if above >= cluster.MaxBase {
		return fmt.Errorf("--tokens-above must be below %d, not %d: tokens have to stay below 2^53", uint64(cluster.MaxBase), above)
	}
	return nil
}

type stateShowCmd struct {
	File string `arg:"" placeholder:"FILE" help:"The file. A server may have it."`
}

func (*stateShowCmd) Help() string {
	return `Shows on which start of which machine the file was written last, how many clients
are kept and for how long, and below which number no fencing token is given any
more. There are no locks in it: those who hold them say so after a restart.

Exit codes:

	0  it is shown
	1  it cannot be read, is damaged, or none of lockd's
	2  wrong usage`
}

// aheadAtMost is more than a server's floor is ahead of a clock that has always been right.
const aheadAtMost = 5 * time.Minute

func (c *stateShowCmd) Run() error {
	s, err := state.Show(c.File)
	if err != nil {
		return err
	}
	boot := s.Boot + ", another one than now"
	switch {
	case s.Follows:
		boot = "none yet: the file follows other servers, for whose holders nobody has waited to the end"
	case s.Missing:
		boot = "none yet: the server found no file when it started, and has not waited to the end"
	case s.Here:
		boot = s.Boot + ", which goes on"
	}
	clients := "none"
	if n := len(s.Keys); n > 0 {
		clients = fmt.Sprintf("%d, for %v", n, time.Duration(s.Keys[0])*time.Millisecond)
		if last := s.Keys[n-1]; last != s.Keys[0] {
			clients += fmt.Sprintf(" to %v", time.Duration(last)*time.Millisecond)
		}
	}
	tokens := "below " + strconv.FormatUint(s.Floor, 10) + " (" + time.UnixMicro(int64(s.Floor)).Format(time.DateTime) + ")"
	if s.Floor > uint64(time.Now().Add(aheadAtMost).UnixMicro()) {
		tokens += ", ahead of this clock: a new file needs --in-place-of, or --tokens-above"
	}
	rows := [][]string{
		{"start of the machine", boot},
		{"kept clients", clients},
		{"tokens", tokens},
	}
	if s.Torn > 0 {
		rows = append(rows, []string{"unfinished", fmt.Sprintf("%d bytes at the end, which are dropped at the next start", s.Torn)})
	}
	writeRows(stdout, rows)
	return nil
}
