package api

import "runtime/metrics"

// heap returns how many bytes Go's heap has in objects, those that are dead and not
// swept yet among them.
func heap() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
