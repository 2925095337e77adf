module github.com/nylen/lockd/test/linear

go 1.26.0

require github.com/nylen/lockd v0.0.0

require github.com/anishathalye/porcupine v1.3.1 // indirect

replace github.com/nylen/lockd => ../..
