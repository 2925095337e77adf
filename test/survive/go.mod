module github.com/nylen/lockd/test/survive

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/nylen/lockd v0.0.0
	golang.org/x/sys v0.50.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/gobwas/httphead v0.1.0 // indirect
	github.com/gobwas/ws v1.5.0 // indirect
)

replace github.com/nylen/lockd => ../..
