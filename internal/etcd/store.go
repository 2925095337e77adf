// Package etcd keeps a cluster's keys (internal/cluster) in an etcd: it is a
// cluster.Store.
//
// Below the prefix P are P/conf, P/map, P/want and P/node/ID, and nothing else. Each
// operation is one transaction, or one linearizable read. There are no leases: for how
// long a node may serve is told by its own clock from when it sent what etcd has
// confirmed, and that it is gone, by other nodes' clocks. Each transaction compares
// P/conf: so a store never changes another cluster than the one that it read first,
// whatever its URL leads to by then.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nylen/lockd/internal/cluster"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Patience of the connection below: how long one that carries nothing is trusted (etcd
// refuses to be asked more often than each 5 s, gRPC asks no more often than each 10 s),
// and how long what was sent may be unacknowledged.
const (
	dialTimeout      = 5 * time.Second
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 2 * time.Second
)

// How soon a connection is tried again. gRPC's own times grow to two minutes: when etcd
// comes back after some time away, a node that tries later than another would be
// deleted by that one.
var connecting = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 250 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// goneAtOnce bounds how many registrations a change deletes: etcd takes 128 operations
// and compares in a transaction.
const goneAtOnce = 100

// A Store is an etcd.
type Store struct {
	place  place
	config clientv3.Config

	mu     sync.Mutex // guards what follows
	client *clientv3.Client
	closed bool
	conf   string // P/conf, as it was when it was read first

	silent silence
}

var _ cluster.Store = (*Store)(nil)

// Open makes a store of an etcd. It reads the files, and does not connect yet: an etcd
// that is away is an error of the operations.
func Open(c Config) (*Store, error) {
	p, err := parse(c.URL)
	if err != nil {
		return nil, err
	}
	secure, err := c.tls(p)
	if err != nil {
		return nil, err
	}
	password, err := c.password()
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if secure != nil {
		scheme = "https://"
	}
	s := &Store{place: p, config: clientv3.Config{
		TLS: secure, Username: c.User, Password: password, Logger: zap.NewNop(),
		DialTimeout: dialTimeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(connecting)},
	}}
	if c.ServerName != "" {
		// Else each host's own name stands in the place of the TLS's.
		s.config.DialOptions = append(s.config.DialOptions, grpc.WithAuthority(c.ServerName))
	}
	for _, host := range p.hosts {
		s.config.Endpoints = append(s.config.Endpoints, scheme+host)
	}
	return s, nil
}

// Prefix is what all keys are below.
func (s *Store) Prefix() string { return s.place.prefix }

// Close ends the connections. Operations fail then.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

// connect returns the client. Where there is a password etcd is asked with it at once,
// so that is tried again until it succeeds, by one at a time.
func (s *Store) connect(ctx context.Context) (*clientv3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the connection to etcd is closed")
	}
	if s.client != nil {
		return s.client, nil
	}
	config := s.config
	if end, ok := ctx.Deadline(); ok {
		config.DialTimeout = min(max(time.Until(end), time.Millisecond), dialTimeout)
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, s.explain(err)
	}
	if config.Username != "" {
		client.Auth = introduction{client.Auth, config}
	}
	s.client = client
	return client, nil
}

// An introduction asks for a token over a connection that shows none. Etcd's client shows
// the one that has ended, which an etcd before 3.5 takes for the asker's: it refuses, the
// client asks for another one to be asked with, and so on, until the process ends. That one
// has ended needs no more than a restart of etcd.
type introduction struct {
	clientv3.Auth
	config clientv3.Config
}

func (a introduction) Authenticate(ctx context.Context, name, password string) (*clientv3.AuthenticateResponse, error) {
	config := a.config
	config.Username, config.Password = "", ""
	bare, err := clientv3.New(config)
	if err != nil {
		return nil, err
	}
	defer bare.Close()
	return bare.Authenticate(ctx, name, password)
}

func (s *Store) key(name string) string { return s.place.prefix + "/" + name }

const nodes = "node/"

// all reads the whole of it, as an operation of a transaction or as a read.
func (s *Store) all() clientv3.Op { return clientv3.OpGet(s.key(""), clientv3.WithPrefix()) }

func present(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), ">", 0) }
func absent(key string) clientv3.Cmp  { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }
func value(key, is string) clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(key), "=", is)
}

// Init implements cluster.Store. There must be nothing below the prefix at all.
func (s *Store) Init(ctx context.Context, c cluster.Conf, m *cluster.Map) error {
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	r, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(s.key("")), "=", 0).WithPrefix()).
		Then(clientv3.OpPut(s.key("conf"), c.Encode()), clientv3.OpPut(s.key("map"), m.Encode())).
		Commit()
	switch {
	case err != nil:
		return s.explain(err)
	case !r.Succeeded:
		return cluster.ErrExists
	}
	return nil
}

// Read implements cluster.Store.
func (s *Store) Read(ctx context.Context) (*cluster.View, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	r, err := client.Get(ctx, s.key(""), clientv3.WithPrefix())
	if err != nil {
		return nil, s.explain(err)
	}
	s.silent.end()
	return s.view(r.Kvs)
}

// view makes a view of all keys.
func (s *Store) view(kvs []*mvccpb.KeyValue) (*cluster.View, error) {
	v := new(cluster.View)
	conf := ""
	for _, kv := range kvs { // in the keys' order
		var err error
		text := string(kv.Value)
		switch name := strings.TrimPrefix(string(kv.Key), s.key("")); {
		case name == "conf":
			conf = text
			v.Conf, err = cluster.DecodeConf(text)
		case name == "map":
			v.Map, err = cluster.DecodeMap(text)
		case name == "want":
			v.Want, err = cluster.DecodeWant(text)
		case strings.HasPrefix(name, nodes):
			v.Nodes = append(v.Nodes, cluster.DecodeNode(strings.TrimPrefix(name, nodes), text))
		}
		if err != nil {
			return nil, fmt.Errorf("etcd's key %s: %w", kv.Key, err)
		}
	}
	switch {
	case conf == "":
		return nil, cluster.ErrNoCluster
	case v.Map == nil:
		return nil, fmt.Errorf("etcd has %s, and no %s", s.key("conf"), s.key("map"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conf == "" {
		s.conf = conf
	}
	if s.conf != conf {
		return nil, cluster.ErrWorld
	}
	return v, nil
}

// ours is the compare that each transaction has: this is the cluster that was read.
func (s *Store) ours() clientv3.Cmp {
	s.mu.Lock()
	defer s.mu.Unlock()
	return value(s.key("conf"), s.conf)
}

// Register implements cluster.Store.
func (s *Store) Register(ctx context.Context, n cluster.Node) (cluster.Beat, error) {
	return s.put(ctx, n, absent(s.key(nodes+n.ID)))
}

// Beat implements cluster.Store.
func (s *Store) Beat(ctx context.Context, old, next cluster.Node) (cluster.Beat, error) {
	return s.put(ctx, next, value(s.key(nodes+next.ID), old.Encode()))
}

func (s *Store) put(ctx context.Context, n cluster.Node, if_ clientv3.Cmp) (cluster.Beat, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return cluster.Beat{}, err
	}
	r, err := client.Txn(ctx).If(s.ours(), if_).Then(clientv3.OpPut(s.key(nodes+n.ID), n.Encode()), s.all()).Else(s.all()).Commit()
	if err != nil {
		return cluster.Beat{}, s.explain(err)
	}
	s.silent.end()
	v, err := s.view(r.Responses[len(r.Responses)-1].GetResponseRange().Kvs)
	return cluster.Beat{Done: r.Succeeded, View: v}, err
}

// Commit implements cluster.Store.
func (s *Store) Commit(ctx context.Context, c cluster.Change) (bool, error) {
	if len(c.Gone) > goneAtOnce || len(c.Gone)+len(c.Present)+len(c.Absent) > goneAtOnce {
		return false, fmt.Errorf("more than %d nodes in one change", goneAtOnce)
	}
	compares := []clientv3.Cmp{value(s.key("map"), c.Seen.Encode())}
	then := []clientv3.Op{clientv3.OpPut(s.key("map"), c.Next.Encode())}
	for _, id := range c.Present {
		compares = append(compares, present(s.key(nodes+id)))
	}
	for _, id := range c.Absent {
		compares = append(compares, absent(s.key(nodes+id)))
	}
	for _, n := range c.Gone {
		compares = append(compares, value(s.key(nodes+n.ID), n.Encode()))
		then = append(then, clientv3.OpDelete(s.key(nodes+n.ID)))
	}
	return s.change(ctx, compares, then)
}

// PutWant implements cluster.Store.
func (s *Store) PutWant(ctx context.Context, seen, next cluster.Want) (bool, error) {
	compare := absent(s.key("want"))
	if seen.Read() {
		compare = value(s.key("want"), seen.Encode())
	}
	return s.change(ctx, []clientv3.Cmp{compare}, []clientv3.Op{clientv3.OpPut(s.key("want"), next.Encode())})
}

func (s *Store) change(ctx context.Context, if_ []clientv3.Cmp, then []clientv3.Op) (bool, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	conf := s.conf
	s.mu.Unlock()
	r, err := client.Txn(ctx).If(append(if_, s.ours())...).Then(then...).Else(clientv3.OpGet(s.key("conf"))).Commit()
	switch {
	case err != nil:
		return false, s.explain(err)
	case r.Succeeded:
		return true, nil
	}
	switch kvs := r.Responses[0].GetResponseRange().Kvs; {
	case len(kvs) == 0:
		return false, cluster.ErrNoCluster
	case string(kvs[0].Value) != conf:
		return false, cluster.ErrWorld
	}
	return false, nil
}

// Watch implements cluster.Store. A watch that breaks, because what it is at was
// compacted or its etcd has no leader, begins anew, and says that there may be
// something to see.
func (s *Store) Watch(ctx context.Context) <-chan struct{} {
	told := make(chan struct{}, 1)
	tell := func() {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	go func() {
		for ctx.Err() == nil {
			if client, err := s.connect(ctx); err == nil {
				s.watch(ctx, client, tell)
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return told
}

func (s *Store) watch(ctx context.Context, client *clientv3.Client, tell func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for r := range client.Watch(clientv3.WithRequireLeader(ctx), s.key(""), clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		if r.Created {
			tell()
		}
		for _, e := range r.Events {
			if !strings.HasPrefix(string(e.Kv.Key), s.key(nodes)) || e.IsCreate() || e.Type == clientv3.EventTypeDelete {
				tell()
				break
			}
		}
		if r.Err() != nil {
			tell()
			return
		}
	}
}

// explain says what etcd's errors mean for who runs a cluster on it.
func (s *Store) explain(err error) error {
	for _, of := range []struct {
		err  error
		text string
	}{
		{rpctypes.ErrUserEmpty, "etcd asks who this is: it needs a user and a password"},
		{rpctypes.ErrAuthFailed, "etcd does not know this user with this password: is it the right user, and the right file?"},
		{rpctypes.ErrAuthNotEnabled, "etcd asks nobody who he is (authentication is not enabled): leave the user away"},
		{rpctypes.ErrPermissionDenied, s.forbidden()},
		{rpctypes.ErrNoLeader, "etcd has no leader"},
		{rpctypes.ErrNoSpace, "etcd has no room left (its alarm NOSPACE): compact and defragment it"},
	} {
		if errors.Is(err, of.err) || rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(of.err) {
			return &Error{of.text, err}
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{"etcd has not answered" + s.whySilent(), err}
	}
	return &Error{"etcd: " + strings.TrimPrefix(rpctypes.ErrorDesc(err), "etcdserver: "), err}
}

// forbidden is about a user who may not do what was asked for.
func (s *Store) forbidden() string {
	if s.config.Username == "" { // then it knows no other name
		return "etcd takes the name in the client's certificate for the user, and does not let that one read and write " + s.key("") + ": name another user, or give its role the permission"
	}
	return "etcd does not let this user read and write " + s.key("") + ": give its role the permission, if path and user are right"
}

// An Error is what etcd said, in words for who runs a cluster on it.
type Error struct {
	Text string
	Err  error
}

func (e *Error) Error() string { return e.Text }
func (e *Error) Unwrap() error { return e.Err }
