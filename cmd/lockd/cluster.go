package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
	"github.com/nylen/lockd/internal/state"
	"github.com/nylen/lockd/internal/wire"
)

// clusterCmd is about the servers that share their locks' names, by what etcd has of
// them. It asks etcd, and none of the servers.
type clusterCmd struct {
	Init      clusterInitCmd      `cmd:"" help:"Make a cluster, once, before its first server starts."`
	Status    clusterStatusCmd    `cmd:"" help:"Show the nodes, and whether all is well."`
	Map       clusterMapCmd       `cmd:"" help:"Show which node owns what, or a lock."`
	Drain     clusterDrainCmd     `cmd:"" help:"Have a node's partitions move to the others."`
	Rebalance clusterRebalanceCmd `cmd:"" help:"Even out who owns how much, or leave it."`
}

// ensemble is how a command finds the etcd of a cluster.
type ensemble struct {
	CA           filled `name:"cluster-ca" placeholder:"FILE" help:"Trust the authorities whose certificates are in this file, in the place of the system's. This and the next two have etcd:// use TLS."`
	Cert         filled `name:"cluster-cert" placeholder:"FILE" help:"The certificate to show to etcd."`
	Key          filled `name:"cluster-key" placeholder:"FILE" help:"The key of --cluster-cert."`
	ServerName   filled `name:"cluster-server-name" placeholder:"NAME" help:"The name that etcd's certificate has to be for, if it is not the host of --cluster."`
	User         filled `name:"cluster-user" placeholder:"NAME" help:"The user to be in etcd."`
	PasswordFile filled `name:"cluster-password-file" placeholder:"FILE" help:"A file with the password of --cluster-user."`

	store *etcd.Store
}

// etcdFlags has what internal/etcd says of its config say it of flags.
var etcdFlags = strings.NewReplacer(
	"the CA: ", "--cluster-ca: ",
	"want etcds://, or a CA", "want etcds:// or --cluster-ca",
	"a server's name is", "--cluster-server-name is",
	"the client's certificate: ", "--cluster-cert: ",
	"a client's key needs its certificate", "--cluster-key needs --cluster-cert, too",
	"a client's certificate needs its key", "--cluster-cert needs --cluster-key, too",
	"the password: ", "--cluster-password-file: ",
	"a password needs its user", "--cluster-password-file needs --cluster-user, too",
	"a user needs a file with the password", "--cluster-user needs --cluster-password-file, too",
	"it needs a user and a password", "--cluster-user and --cluster-password-file",
	"leave the user away", "leave --cluster-user away",
	"is it the right user, and the right file?", "look at --cluster-user and --cluster-password-file",
	"is it the right CA?", "look at --cluster-ca",
	"give the server's name that is in it", "--cluster-server-name is for the name that is in it",
	"name one, and its key", "--cluster-cert and --cluster-key",
	"refuses the client's certificate: is it by an authority that it trusts?", "refuses --cluster-cert: is it by an authority that etcd trusts?",
	"want etcd://, and neither a CA nor a certificate", "want etcd://, without --cluster-ca and --cluster-cert",
)

// open finds it by a URL, if there is one.
func (e *ensemble) open(url filled) error {
	if url == "" {
		return nil
	}
	s, err := etcd.Open(etcd.Config{
		URL: string(url), CA: string(e.CA), Cert: string(e.Cert), Key: string(e.Key),
		ServerName: string(e.ServerName), User: string(e.User), PasswordFile: string(e.PasswordFile),
	})
	if err != nil {
		text := etcdFlags.Replace(err.Error())
		if !strings.HasPrefix(text, "--") {
			text = "--cluster: " + text
		}
		return errors.New(text)
	}
	e.store = s
	return nil
}

// administration is what the commands about a cluster have in common.
type administration struct {
	Cluster filled `placeholder:"URL" required:"" help:"The cluster's etcd: etcd://HOST:PORT[,HOST:PORT...]/PREFIX, or etcds:// for TLS with the system's authorities."`
	ensemble
	Timeout time.Duration `env:"-" placeholder:"TIME" default:"5s" help:"How long etcd may take to answer (${default})."`
	JSON    bool          `env:"-" help:"Print one JSON document."`
}

// Validate is called by kong.
func (a *administration) Validate() error { return a.open(a.Cluster) }

// warn warns of secrets that everybody can read.
func (e *ensemble) warn() {
	if runtime.GOOS == "windows" { // which has no such modes
		return
	}
	for _, path := range []filled{e.PasswordFile, e.Key} {
		if info, err := os.Stat(string(path)); err == nil && info.Mode().IsRegular() && info.Mode()&0o004 != 0 {
			fmt.Fprintf(stderr, "lockd: every user of this machine can read %s: chmod o-r it\n", plain(string(path)))
		}
	}
}

// ask asks etcd. What goes wrong ends the process.
func (a *administration) ask(f func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), a.Timeout)
	defer cancel()
	err := f(ctx)
	if err == nil {
		return
	}
	code, text := a.explain(string(a.Cluster), a.Timeout, err)
	fail(code, text)
}

// explain says what was wrong with an etcd that had so long to answer, and with which code to
// end.
func (e *ensemble) explain(url string, patience time.Duration, err error) (code int, text string) {
	switch {
	case errors.Is(err, cluster.ErrNoCluster):
		return 1, fmt.Sprintf("there is no cluster at %s: lockd cluster init makes one, if the URL is right", url)
	case errors.Is(err, context.DeadlineExceeded):
		return exitUnavailable, fmt.Sprintf("%s: no answer within %v (%v)", url, patience, etcdFlags.Replace(e.store.Diagnose(context.Background(), err).Error()))
	case errors.As(err, new(*etcd.Error)):
		return exitUnavailable, url + ": " + etcdFlags.Replace(err.Error())
	}
	return 1, url + ": " + err.Error()
}

// read reads what etcd has.
func (a *administration) read() (v *cluster.View) {
	a.warn()
	a.ask(func(ctx context.Context) (err error) {
		v, err = a.store.Read(ctx)
		return err
	})
	return v
}

// readEnded reads what a cluster was, whose nodes have ended: none may grant anything any more.
// A registration that does not change for as long as nodes wait before they delete one is a
// dead node's.
func (a *administration) readEnded() *cluster.View {
	v := a.read()
	first, begun := v, time.Now()
	for {
		var live []string
		for _, n := range v.Nodes {
			if was := first.Node(n.ID); was == nil || was.Encode() != n.Encode() {
				live = append(live, plain(n.Name))
			}
		}
		switch {
		case len(live) > 0:
			fail(1, fmt.Sprintf("%s: nodes live, and may grant: %s. Stop all of them, and see to it that they do not start again; then try this once more", a.Cluster, strings.Join(live, ", ")))
		case len(v.Nodes) > 0 && time.Since(begun) <= first.Conf.Silence():
			if first == v {
				fmt.Fprintf(stderr, "lockd: %s registered: looking for %v whether any of them lives\n", are(len(v.Nodes), "node"), first.Conf.Silence())
			}
			time.Sleep(first.Conf.Beat() / 4)
			v = a.read()
			continue
		}
		for _, n := range v.Nodes {
			if !n.Readable() {
				fail(1, fmt.Sprintf("%s: the registration of node %s cannot be read, so nobody knows which tokens it gave: use the lockd that it was", a.Cluster, plain(n.ID)))
			}
		}
		return v
	}
}

// are is a number of things that are something.
func are(n int, what string) string {
	if n == 1 {
		return count(n, what) + " is"
	}
	return count(n, what) + " are"
}

func (a *administration) print(document any, rows [][]string) error {
	if a.JSON {
		return printJSON(document)
	}
	writeRows(stdout, rows)
	return nil
}

type clusterInitCmd struct {
	administration
	NodeTimeout   time.Duration `env:"-" placeholder:"TIME" default:"5s" help:"W: how long a node may serve after its last heartbeat to etcd (${default})."`
	HolderTimeout time.Duration `env:"-" placeholder:"TIME" default:"25s" help:"G: the longest that anybody may believe in a lock without hearing of it (${default})."`
	State         filled        `env:"-" placeholder:"FILE" help:"The cluster follows the server whose state file this was: its fencing tokens are above all of that one's, which must have ended."`
	TokensAbove   uint64        `env:"-" placeholder:"N" help:"The cluster follows another server, or cluster: its fencing tokens are above N."`
}

// Validate is called by kong.
func (c *clusterInitCmd) Validate() error {
	if err := c.administration.Validate(); err != nil {
		return err
	}
	return checkTokens(c.TokensAbove)
}

func (*clusterInitCmd) Help() string {
	return `Writes into etcd what the cluster is, and that nobody owns anything yet. There must
be nothing at the URL. It is for the first time only: for an etcd that was lost,
too, but only when all nodes were stopped for longer than G.

A single server's fencing tokens rest on its clock, a cluster's on those of the
nodes. Where there was a server before, --state or --tokens-above has them grow
whatever these show. Its clients may not know yet that it is gone, so the first nodes
give nobody anything new for 1.1 G.

W and G stay as they are made. A fail-over takes 1.1 W, and then 1.1 G in which
nobody gets anything new of what the dead node had; an etcd that is away for
longer than W stops all nodes until it is back.

Exit codes:

	0   the cluster is made
	1   there is one already; the state file cannot be read, or a server has it
	2   wrong usage
	69  etcd cannot be reached, or refuses

The JSON document: world, the cluster's random ID, and base, which no fencing token
is below.`
}

func (c *clusterInitCmd) Run() error {
	conf, err := cluster.NewConf(c.NodeTimeout, c.HolderTimeout)
	if err != nil {
		return usageError{err}
	}
	first, rest := cluster.NewMap(), ""
	if c.State != "" || c.TokensAbove > 0 {
		base := uint64(0)
		if c.TokensAbove > 0 {
			base = c.TokensAbove + 1
		}
		if c.State != "" {
			last, done, err := state.Last(string(c.State))
			if err != nil {
				return err
			}
			defer done()
			if err := fits(string(c.State), last, conf); err != nil {
				return err
			}
			base = max(base, last.Floor)
		}
		first = cluster.NewMapAfter(base)
		rest = fmt.Sprintf(". Fencing tokens begin with %d; from when the first nodes are there nobody gets anything new for %v", base, conf.Recovery())
	}
	c.warn()
	c.ask(func(ctx context.Context) error {
		err := c.store.Init(ctx, conf, first)
		if !errors.Is(err, cluster.ErrExists) {
			return err
		}
		v, err := c.store.Read(ctx)
		switch {
		case errors.Is(err, cluster.ErrNoCluster):
			return fmt.Errorf("there are keys below %s/ that are no cluster's: choose another prefix, or remove them", c.store.Prefix())
		case err != nil:
			return err
		}
		fail(1, fmt.Sprintf("%s has a cluster already: %s, W %v, G %v, %s. Nothing was changed", c.Cluster, v.Conf.World, v.Conf.W, v.Conf.G, count(len(v.Nodes), "node")))
		return nil
	})
	return c.print(struct {
		World string `json:"world"`
		Base  uint64 `json:"base"`
	}{conf.World, first.Base}, [][]string{{fmt.Sprintf("cluster %s is made: W %v, G %v%s", conf.World, conf.W, conf.G, rest)}})
}

// fits tells whether a new cluster waits for all whom a server has kept: its first nodes wait
// for each other, and then for holders.
func fits(path string, last *state.Summary, conf cluster.Conf) error {
	if last.Floor > cluster.MaxBase {
		return fmt.Errorf("%s: its server's tokens go up to %d: no cluster could give larger ones for long, which have to stay below 2^53", path, last.Floor)
	}
	if len(last.Keys) == 0 {
		return nil
	}
	longest, waits := time.Duration(last.Keys[len(last.Keys)-1])*time.Millisecond, conf.Silence()+conf.Recovery()
	if longest <= waits {
		return nil
	}
	g := ((longest-conf.Silence())*10/11 + time.Second).Truncate(time.Second)
	return fmt.Errorf("%s: the server keeps clients for up to %v, and the first nodes would wait for them for %v only: --holder-timeout %v", path, longest, waits, g)
}

// count is a number of things.
func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

type clusterStatusCmd struct{ administration }

func (*clusterStatusCmd) Help() string {
	return `Looks at etcd for as long as every node should have said that it lives, two thirds
of W at most, and tells how they are. The states: serving; idle, which owns
nothing; recovering, moving, which some of its partitions are; silent, of which
nothing was heard; behind, which has not the newest map yet; draining and leaving;
and what a node says of itself when it is not well.

Exit codes:

	0   all is well
	1   something is not: what, is the last lines
	2   wrong usage
	69  etcd cannot be reached, or refuses

The JSON document: world, w_ms, g_ms, version (the map's), rebalance, drains
(names), highest_token (the highest fencing token that may have been granted; 0: none
was), nodes (a list of name, id, addr, admin, version, partitions, serving,
recovering, frozen, state, want, silent_ms), problems (a list of sentences).`
}

// statusNode is a node's row.
type statusNode struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Addr       string `json:"addr"`
	Admin      string `json:"admin"`
	Version    string `json:"version"`
	Partitions int    `json:"partitions"`
	Serving    int    `json:"serving"`
	Recovering int    `json:"recovering"`
	Frozen     int    `json:"frozen"`
	State      string `json:"state"`
	Want       string `json:"want"`
	Silent     int64  `json:"silent_ms"`
}

type statusDocument struct {
	World     string       `json:"world"`
	W         int64        `json:"w_ms"`
	G         int64        `json:"g_ms"`
	Version   uint64       `json:"version"`
	Rebalance bool         `json:"rebalance"`
	Drains    []string     `json:"drains"`
	Highest   uint64       `json:"highest_token"`
	Nodes     []statusNode `json:"nodes"`
	Problems  []string     `json:"problems"`
}

func (c *clusterStatusCmd) Run() error {
	v, silent := c.watch()
	doc := statusOf(v, silent)
	rows := [][]string{{"NAME", "ID", "ADDR", "VERSION", "PARTITIONS", "STATE", "WANT", "SILENT"}}
	for _, n := range doc.Nodes {
		rows = append(rows, []string{
			plain(n.Name), plain(n.ID), plain(n.Addr), plain(n.Version), strconv.Itoa(n.Partitions), plain(n.State), n.Want,
			fmt.Sprintf("%.1fs", float64(n.Silent)/1000),
		})
	}
	balance := "on"
	if !doc.Rebalance {
		balance = "off"
	}
	rows = append(rows, []string{fmt.Sprintf("cluster %s: W %v, G %v, map %d, rebalance %s", doc.World, v.Conf.W, v.Conf.G, doc.Version, balance)})
	if doc.Highest > 0 {
		rows = append(rows, []string{fmt.Sprintf("fencing tokens: up to %d may have been granted (%s)", doc.Highest, time.UnixMicro(int64(doc.Highest)).Format(time.DateTime))})
	}
	for _, p := range doc.Problems {
		rows = append(rows, []string{p})
	}
	if err := c.print(doc, rows); err != nil {
		return err
	}
	if len(doc.Problems) > 0 {
		exit(1)
	}
	return nil
}

// watch reads until all nodes were heard, for two thirds of W at most, and returns what
// is there then and for how long each was not heard.
func (c *clusterStatusCmd) watch() (v *cluster.View, silent map[string]time.Duration) {
	first := c.read()
	begun := time.Now()
	heard := make(map[string]time.Time)
	v = first
	for patience := first.Conf.Beat() * 2; ; {
		quiet := false
		for _, n := range v.Nodes {
			was := first.Node(n.ID)
			if _, ok := heard[n.ID]; !ok && (was == nil || was.Seq != n.Seq) {
				heard[n.ID] = time.Now()
			} else if !ok {
				quiet = true
			}
		}
		if !quiet || time.Since(begun) > patience {
			break
		}
		time.Sleep(first.Conf.Beat() / 8)
		v = c.read()
	}
	silent = make(map[string]time.Duration)
	for _, n := range v.Nodes {
		silent[n.ID] = time.Since(begun)
		if at, ok := heard[n.ID]; ok {
			silent[n.ID] = time.Since(at)
		}
	}
	return v, silent
}

// statusOf makes the document.
func statusOf(v *cluster.View, silent map[string]time.Duration) statusDocument {
	d := statusDocument{
		World: v.Conf.World, W: v.Conf.W.Milliseconds(), G: v.Conf.G.Milliseconds(), Version: v.Map.Version,
		Rebalance: !v.Want.Still, Drains: append([]string{}, v.Want.Drains...), Nodes: []statusNode{}, Problems: []string{},
	}
	if below := v.TokensBelow(); below > 0 {
		d.Highest = below - 1
	}
	problem := func(format string, args ...any) { d.Problems = append(d.Problems, fmt.Sprintf(format, args...)) }
	counts := v.Map.Count()
	nodes := slices.Clone(v.Nodes)
	slices.SortStableFunc(nodes, func(a, b cluster.Node) int { return strings.Compare(a.Name, b.Name) })
	names := make(map[string]int)
	for i := range nodes {
		n := &nodes[i]
		names[n.Name]++
		row := statusNode{
			Name: n.Name, ID: n.ID, Addr: n.Addr, Admin: n.Admin, Version: n.Version, Partitions: counts[n.ID],
			Serving: n.Serving, Recovering: n.Recovering, Frozen: n.Frozen, Want: "own", Silent: silent[n.ID].Milliseconds(),
		}
		if v.Want.Drained(n.Name) {
			row.Want = "drain"
		}
		switch drained := v.Want.Drained(n.Name) && row.Partitions > 0; {
		case silent[n.ID] >= v.Conf.Beat()*2:
			row.State = "silent"
			problem("%s is silent: without a sign for %v it is deleted, and others recover what it owns", plain(n.Name), v.Conf.Silence())
		case n.Unwell != "":
			row.State = n.Unwell
			problem("%s is not well: %s", plain(n.Name), plain(n.Unwell))
		case n.Recovering > 0:
			row.State = "recovering"
			problem("%s recovers %s: nobody gets anything new of these for %v since they became its own", plain(n.Name), count(n.Recovering, "partition"), v.Conf.Recovery())
		case n.Map < v.Map.Version:
			row.State = "behind"
		case n.Frozen > 0:
			row.State = "moving"
		case n.Leaving:
			row.State = "leaving"
		case drained:
			row.State = "draining"
		case row.Partitions == 0:
			row.State = "idle"
		default:
			row.State = "serving"
		}
		d.Nodes = append(d.Nodes, row)
	}
	for name, n := range names {
		if n > 1 {
			problem("%d nodes have the name %s: one of them is from before a restart, or they share a config", n, plain(name))
		}
	}
	nobody, gone := 0, 0
	for id, n := range counts {
		switch {
		case id == "":
			nobody = n
		case v.Node(id) == nil:
			gone += n
		}
	}
	if len(v.Nodes) == 0 {
		problem("there is no node: start lockd with --cluster")
	}
	if nobody > 0 {
		problem("%s have no owner yet: the first nodes wait for each other, for %v", count(nobody, "partition"), v.Conf.Silence())
	}
	if gone > 0 {
		problem("%s are those of a node that is gone: others take them over after %v", count(gone, "partition"), v.Conf.Silence())
	}
	if plan := cluster.Plan(v.Map, v.Nodes, v.Want); len(plan) > 0 && len(d.Problems) == 0 {
		n := 0
		for _, m := range plan {
			n += len(m.Parts)
		}
		problem("%s are to be moved", count(n, "partition"))
	}
	slices.Sort(d.Problems)
	return d
}

type clusterMapCmd struct {
	administration
	Name *verbatim `arg:"" optional:"" help:"A lock: its partition and owner."`
}

func (*clusterMapCmd) Help() string {
	return `Shows which of the 1,024 partitions each node owns, or which partition a lock's
name is in, and who owns that.

Exit codes:

	0   it is shown
	1   there is no cluster
	2   wrong usage
	69  etcd cannot be reached, or refuses

The JSON document: version, nodes (a list of name, id, addr, partitions, a list of
numbers); or partition, epoch, name, id, addr of the owner, empty if there is none.`
}

func (c *clusterMapCmd) Run() error {
	if c.Name != nil {
		return c.one(string(*c.Name))
	}
	v := c.read()
	type owner struct {
		Name       string `json:"name"`
		ID         string `json:"id"`
		Addr       string `json:"addr"`
		Partitions []int  `json:"partitions"`
	}
	doc := struct {
		Version uint64  `json:"version"`
		Nodes   []owner `json:"nodes"`
	}{v.Map.Version, []owner{}}
	for _, n := range v.Nodes {
		doc.Nodes = append(doc.Nodes, owner{n.Name, n.ID, n.Addr, append([]int{}, v.Map.Owned(n.ID)...)})
	}
	slices.SortStableFunc(doc.Nodes, func(a, b owner) int { return strings.Compare(a.Name, b.Name) })
	var ids []string
	for id := range v.Map.Count() {
		if v.Node(id) == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		doc.Nodes = append(doc.Nodes, owner{ID: id, Partitions: v.Map.Owned(id)})
	}
	rows := [][]string{{"NODE", "ID", "COUNT", "PARTITIONS"}}
	for _, o := range doc.Nodes {
		name, id := plain(o.Name), plain(o.ID)
		switch {
		case o.ID == "":
			name, id = "(nobody)", "-"
		case o.Name == "" && v.Node(o.ID) == nil:
			name = "(gone)"
		}
		rows = append(rows, []string{name, id, strconv.Itoa(len(o.Partitions)), ranges(o.Partitions)})
	}
	return c.print(doc, rows)
}

// ranges spells numbers that are in order.
func ranges(parts []int) string {
	var words []string
	for i := 0; i < len(parts); {
		j := i
		for j+1 < len(parts) && parts[j+1] == parts[j]+1 {
			j++
		}
		if i == j {
			words = append(words, strconv.Itoa(parts[i]))
		} else {
			words = append(words, fmt.Sprintf("%d-%d", parts[i], parts[j]))
		}
		i = j + 1
	}
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, " ")
}

func (c *clusterMapCmd) one(name string) error {
	folded, ok := wire.FoldName(name)
	if !ok || folded == "" {
		return usageError{fmt.Errorf("<name>: %q is no lock's name", name)}
	}
	v := c.read()
	i := wire.PartitionOf(folded)
	p := v.Map.Partitions[i]
	doc := struct {
		Partition int    `json:"partition"`
		Epoch     uint64 `json:"epoch"`
		Name      string `json:"name"`
		ID        string `json:"id"`
		Addr      string `json:"addr"`
	}{Partition: i, Epoch: p.Epoch, ID: p.Owner}
	text := fmt.Sprintf("%s is in partition %d, which ", plain(folded), i)
	switch n := v.Node(p.Owner); {
	case n != nil:
		doc.Name, doc.Addr = n.Name, n.Addr
		text += fmt.Sprintf("%s owns (%s, ID %s)", plain(n.Name), plain(n.Addr), plain(n.ID))
	case p.Owner == "":
		text += "nobody owns yet"
	default:
		text += fmt.Sprintf("%s owned, which is gone", plain(p.Owner))
	}
	return c.print(doc, [][]string{{text}})
}

type clusterDrainCmd struct {
	administration
	Undo bool   `env:"-" help:"Let it own partitions again."`
	Node filled `arg:"" help:"The node's name, as lockd cluster status shows it."`
}

func (*clusterDrainCmd) Help() string {
	return `Has all partitions of a node move to the others, with all locks in them, and none to
it, until --undo; also when it starts again under that name. lockd cluster status
shows how far that is. No lock is lost: each partition's requests wait for a moment
when it moves. Nothing moves while a node is silent, recovers or is not well.

Exit codes:

	0   it is noted
	1   there is no such node, or no other that could take over
	2   wrong usage
	69  etcd cannot be reached, or refuses

The JSON document: drains, the names of all that are drained, and partitions, how
many are still to be moved.`
}

func (c *clusterDrainCmd) Run() error {
	name := string(c.Node)
	v := c.change(func(v *cluster.View) cluster.Want {
		there := slices.ContainsFunc(v.Nodes, func(n cluster.Node) bool { return n.Name == name })
		switch drained := v.Want.Drained(name); {
		case c.Undo && !drained:
			fail(1, fmt.Sprintf("%s is not drained%s", plain(name), c.drained(v.Want)))
		case !c.Undo && !there && !drained:
			fail(1, fmt.Sprintf("there is no node %s: lockd cluster status has their names", plain(name)))
		}
		next := v.Want.Drain(name, !c.Undo)
		if !slices.ContainsFunc(v.Nodes, func(n cluster.Node) bool { return !next.Drained(n.Name) && !n.Leaving }) && !c.Undo {
			fail(1, fmt.Sprintf("%s cannot be drained: there is no other node that could take over", plain(name)))
		}
		return next
	})
	left := 0
	for _, n := range v.Nodes {
		if n.Name == name {
			left += len(v.Map.Owned(n.ID))
		}
	}
	text := fmt.Sprintf("%s is drained: %s to be moved", plain(name), count(left, "partition"))
	if c.Undo {
		left, text = 0, fmt.Sprintf("%s may own partitions again", plain(name))
	}
	return c.print(struct {
		Drains     []string `json:"drains"`
		Partitions int      `json:"partitions"`
	}{append([]string{}, v.Want.Drains...), left}, [][]string{{text}})
}

// drained says who is.
func (c *clusterDrainCmd) drained(w cluster.Want) string {
	if len(w.Drains) == 0 {
		return ": no node is"
	}
	var names []string
	for _, n := range w.Drains {
		names = append(names, plain(n))
	}
	return ", but " + strings.Join(names, ", ")
}

// change replaces what is wanted, whoever else does so at the same time, and returns
// what is there then.
func (a *administration) change(f func(v *cluster.View) cluster.Want) *cluster.View {
	for range 10 {
		v := a.read()
		next := f(v)
		var done bool
		a.ask(func(ctx context.Context) (err error) {
			done, err = a.store.PutWant(ctx, v.Want, next)
			return err
		})
		if done {
			v.Want = next
			return v
		}
	}
	fail(exitUnavailable, "others change what is wanted of the cluster all the time: try again")
	return nil
}

type clusterRebalanceCmd struct {
	administration
	State string `arg:"" enum:"on,off" help:"on or off."`
}

func (*clusterRebalanceCmd) Help() string {
	return `With rebalance on, as it is from the start, partitions move, some at a time, until
all nodes own the same number, or one more: to a node that joins, and back to one
that was drained or dead. With off they stay where they are. What a dead node owned
is given to others, and what a drained one owns is moved, in any case.

Exit codes:

	0   it is noted
	1   there is no cluster
	2   wrong usage
	69  etcd cannot be reached, or refuses

The JSON document: rebalance, and partitions, how many are to be moved.`
}

func (c *clusterRebalanceCmd) Run() error {
	on := c.State == "on"
	v := c.change(func(v *cluster.View) cluster.Want {
		return cluster.Want{Drains: v.Want.Drains, Still: !on}
	})
	n := 0
	for _, m := range cluster.Plan(v.Map, v.Nodes, v.Want) {
		n += len(m.Parts)
	}
	return c.print(struct {
		Rebalance  bool `json:"rebalance"`
		Partitions int  `json:"partitions"`
	}{on, n}, [][]string{{fmt.Sprintf("rebalance is %s: %s to be moved", c.State, count(n, "partition"))}})
}
