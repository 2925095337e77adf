package client

import "github.com/nylen/lockd/internal/wire"

// fold gives a name the spelling that every server agrees on, or ErrBadName if
// it has a line break in it. lockd folds blanks itself; lockd for Node.js does
// not, and would take two spellings for two locks.
func fold(name string) (string, error) {
	folded, ok := wire.FoldName(name)
	if !ok {
		return "", ErrBadName
	}
	return folded, nil
}
