//go:build !linux || noloop

package load

// newLoop returns the next best.
func newLoop(r *run, number, of, all int) (worker, error) { return newGoroutines(r, number, of, all) }
