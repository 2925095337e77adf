package auth

import (
	"crypto/rand"
	"math/big"
	"strings"
)

// tokenMark begins the tokens that we make, so that programs that look for secrets
// where none should be know them.
const tokenMark = "lockd_"

// tokenDigits is how many digits, of 62, as many bits take as a hash has.
const tokenDigits = 43

// NewToken makes a token: 256 random bits, in letters and digits alone, so that it
// can be pasted anywhere.
func NewToken() string {
	var bits [32]byte
	rand.Read(bits[:]) // which never fails
	digits := new(big.Int).SetBytes(bits[:]).Text(62)
	return tokenMark + strings.Repeat("0", tokenDigits-len(digits)) + digits
}
