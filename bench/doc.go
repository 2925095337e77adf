// Package bench measures lockd: the parser, the table of locks, the session
// and the whole way over sockets, with server and client in one process.
//
// To run all of it, which takes a few minutes, and to compare before and
// after a change (benchstat is golang.org/x/perf/cmd/benchstat):
//
//	go test -bench=. ./bench
//	go test -bench=. -count=10 ./bench > before.txt
//	# change something
//	go test -bench=. -count=10 ./bench > after.txt
//	benchstat before.txt after.txt
//
// One part of it, longer, with a profile:
//
//	go test -bench='Exclusive/million' -benchtime=5s -cpuprofile=cpu.out ./bench
//	go tool pprof -list='getLocked|findLocked' bench.test cpu.out
//
// How to read it. Names are made outside of what is timed. The request path
// (Parse, Exclusive/lockd, Shared, Session) must show 0 allocs/op, and a
// change that makes it 1 is not a small one. Exclusive/map is the peer to
// compare Exclusive/lockd with, a mutex and a Go map keyed by string, which
// does less: it has no list of what an owner holds, so it could not release a
// dead owner's locks without looking at everybody's.
//
// An operation of Exclusive and Shared is a get and a release, two requests.
// An operation of EndToEnd is a batch, as many requests as its depth; its
// ns/req is per request and has the client's share in it, since both ends run
// on the same processors: it is good for comparing a change with what was
// before, not for comparing servers. -cpu=1,2,4 shows how the parallel ones
// scale.
package bench
