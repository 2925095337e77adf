module github.com/nylen/lockd/test/model

go 1.26.0
