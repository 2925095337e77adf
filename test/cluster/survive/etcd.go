//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/nylen/lockd/internal/cluster"
)

// An ensemble is the members of an etcd. They are those of the system's etcd if there is
// one, else of one in this program.
type ensemble struct {
	b       *lab
	members []*process
	dirs    []string
	http    http.Client
}

const etcdPrefix = "/locks"

func (b *lab) newEnsemble(n int) (*ensemble, error) {
	e := &ensemble{b: b}
	e.http.Transport = &http.Transport{DialContext: b.desk.DialContext, DisableKeepAlives: true}
	e.http.Timeout = 2 * time.Second
	program, err := exec.LookPath("etcd")
	if err != nil {
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	var initial []string
	for i := range n {
		name := fmt.Sprint("etcd", i+1)
		m, err := b.network.Machine(name)
		if err != nil {
			return nil, err
		}
		e.members = append(e.members, &process{Machine: m, program: program, log: filepath.Join(b.dir, name+".log")})
		e.dirs = append(e.dirs, filepath.Join(b.dir, name))
		initial = append(initial, name+"=http://"+m.Addr+":2380")
	}
	for i, p := range e.members {
		own := etcdConfig{Name: p.Name, Dir: e.dirs[i], Client: "http://" + p.Addr + ":2379", Peer: "http://" + p.Addr + ":2380", Initial: strings.Join(initial, ",")}
		if filepath.Base(program) == "etcd" {
			p.args = own.args()
		} else {
			text, _ := json.Marshal(own)
			p.env = []string{etcdEnv + "=" + string(text)}
		}
		if err := p.start(); err != nil {
			return nil, err
		}
	}
	return e, nil
}

type etcdConfig struct{ Name, Dir, Client, Peer, Initial string }

const (
	etcdBeat     = 50 * time.Millisecond
	etcdElection = 500 * time.Millisecond
)

func (c etcdConfig) args() []string {
	return []string{
		"--name", c.Name, "--data-dir", c.Dir,
		"--listen-client-urls", c.Client, "--advertise-client-urls", c.Client,
		"--listen-peer-urls", c.Peer, "--initial-advertise-peer-urls", c.Peer,
		"--initial-cluster", c.Initial, "--initial-cluster-state", "new",
		"--heartbeat-interval", fmt.Sprint(etcdBeat.Milliseconds()), "--election-timeout", fmt.Sprint(etcdElection.Milliseconds()),
		"--logger", "zap", "--log-level", "error", "--unsafe-no-fsync",
	}
}

// etcdMember is this program as a member.
func etcdMember() error {
	var own etcdConfig
	if err := json.Unmarshal([]byte(os.Getenv(etcdEnv)), &own); err != nil {
		return err
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.UnsafeNoFsync = own.Name, own.Dir, own.Initial, true
	c.TickMs, c.ElectionMs = uint(etcdBeat.Milliseconds()), uint(etcdElection.Milliseconds())
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	at := func(u string) []url.URL {
		one, _ := url.Parse(u)
		return []url.URL{*one}
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = at(own.Client), at(own.Client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(own.Peer), at(own.Peer)
	m, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	return <-m.Err()
}

// url is for nodes.
func (e *ensemble) url() string {
	var hosts []string
	for _, m := range e.members {
		hosts = append(hosts, m.Addr+":2379")
	}
	return "etcd://" + strings.Join(hosts, ",") + etcdPrefix
}

func (e *ensemble) ask(ctx context.Context, member int, path string, in, out any) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+e.members[member].Addr+":2379/v3/"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	r, err := e.http.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("etcd: %s: %s", r.Status, body)
	}
	return json.Unmarshal(body, out)
}

// leader is a member's place; -1: nobody knows.
func (e *ensemble) leader(ctx context.Context) int {
	for i := range e.members {
		var status struct {
			Header struct {
				Member string `json:"member_id"`
			} `json:"header"`
			Leader string `json:"leader"`
		}
		if e.ask(ctx, i, "maintenance/status", struct{}{}, &status) == nil && status.Leader == status.Header.Member {
			return i
		}
	}
	return -1
}

// compact drops all of its history: who watches and has not heard of the newest has to begin anew.
func (e *ensemble) compact(ctx context.Context) error {
	err := errors.New("nobody was asked")
	for i := range e.members {
		var answer struct{ Header struct{ Revision string } }
		key := map[string]string{"key": base64.StdEncoding.EncodeToString([]byte(etcdPrefix))}
		if err = e.ask(ctx, i, "kv/range", key, &answer); err != nil {
			continue
		}
		in := map[string]any{"revision": answer.Header.Revision, "physical": true}
		if err = e.ask(ctx, i, "kv/compaction", in, &answer); err == nil {
			return nil
		}
	}
	return err
}

// A sight is who owned what at a time.
type sight struct {
	at    time.Duration
	m     *cluster.Map
	names map[string]string // of nodes, by their IDs, all that there ever were
	live  int               // nodes that are registered
}

// look reads the cluster's keys.
func (e *ensemble) look(ctx context.Context) (*sight, error) {
	var answer struct {
		KVs []struct{ Key, Value string }
	}
	in := map[string]string{
		"key": base64.StdEncoding.EncodeToString([]byte(etcdPrefix + "/")), "range_end": base64.StdEncoding.EncodeToString([]byte(etcdPrefix + "0")),
	}
	err := errors.New("nobody was asked")
	for i := range e.members {
		if err = e.ask(ctx, i, "kv/range", in, &answer); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	s := &sight{at: now(), names: map[string]string{}}
	for _, kv := range answer.KVs {
		key, _ := base64.StdEncoding.DecodeString(kv.Key)
		value, _ := base64.StdEncoding.DecodeString(kv.Value)
		name := strings.TrimPrefix(string(key), etcdPrefix+"/")
		if name == "map" {
			if s.m, err = cluster.DecodeMap(string(value)); err != nil {
				return nil, err
			}
		} else if id, ok := strings.CutPrefix(name, "node/"); ok {
			n := cluster.DecodeNode(id, string(value))
			s.names[id] = n.Name
			s.live++
		}
	}
	if s.m == nil {
		return nil, errors.New("etcd has no map")
	}
	return s, nil
}
