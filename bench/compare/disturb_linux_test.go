package main

import (
	"testing"

	"github.com/nylen/lockd/internal/load"
	embedded "github.com/nylen/lockd/pkg/server"
)

// A storm goes on whether it is served or refused.
func TestStorm(t *testing.T) {
	for _, o := range []embedded.Options{{}, {MaxConnections: 2}} {
		d := &disturber{addr: serve(t, o)}
		if err := d.connect(2); err != nil {
			t.Fatal(err)
		}
		if err := d.storm(load.Options{Connections: 50, Requests: 500}); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		disconnect(d.conns)
	}
}
