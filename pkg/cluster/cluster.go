// Package cluster has a server inside a Go program be a node of a cluster, whose
// members and map an etcd keeps. It is a package of its own so that only who wants that
// links etcd's client.
package cluster

import (
	"github.com/nylen/lockd/internal/cluster"
	"github.com/nylen/lockd/internal/etcd"
)

// A Config is how the cluster's etcd is reached.
type Config = etcd.Config

// A Store is where a cluster keeps who is a member and who owns what: what a server
// that is to be a node needs.
type Store = cluster.Store

// An Etcd is a Store.
type Etcd = etcd.Store

// Open makes a store of an etcd. It reads the files that the config names, and connects
// when it is used. `lockd cluster init` makes the cluster.
func Open(c Config) (*Etcd, error) { return etcd.Open(c) }
