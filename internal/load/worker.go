package load

import "net"

// A worker makes the requests of some of the connections: in a loop on a thread of
// its own (worker_loop_linux.go) or with a goroutine for each (worker_goroutines.go).
type worker interface {
	adopt(net.Conn) error // takes a connection over; nil: a short one, of which there is none yet
	work() error
	close()

	collect(*tally)
	total(*tally) // adds what was not collected
	state() *job
}

// A job is what all workers have.
type job struct {
	handoff
	run       *run
	generator *generator
}

// begin makes it the job of one of so many workers, which share all connections.
func (j *job) begin(r *run, number, of, all int) (err error) {
	j.run = r
	j.generator, err = newGenerator(r, number, (all-number+of-1)/of)
	j.handoff.open()
	return err
}

func (j *job) state() *job { return j }

func (j *job) total(sum *tally) {
	j.collect(sum)
	sum.add(j.generator.tally)
}

// newWorker returns a worker of the cheaper kind that does. A loop has system calls
// alone to read and write with, which is not enough for TLS; and what goes before the
// request of a short connection waits for its answer.
func newWorker(r *run, number, of, all int) (worker, error) {
	if r.target.Secure || r.opts.Short && r.authenticates() {
		return newGoroutines(r, number, of, all)
	}
	return newLoop(r, number, of, all)
}
