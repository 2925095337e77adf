package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/session"
)

// An Entry is a line that lets somebody in.
type Entry struct {
	Name   string
	Role   session.Role
	Prefix string
	Proof  Proof
	Line   int // its number, from 1 on
}

// A Proof is how somebody shows who it is: the last word of a line. Of several
// entries no two have the same.
type Proof struct {
	kind proofKind
	hash [sha256.Size]byte // of a token
	cert string            // the name in a certificate
	uid  uint32
}

type proofKind uint8

const (
	byToken proofKind = iota
	byCert
	byUID
)

// The first words of a proof.
const (
	hashWord = "sha256:"
	certWord = "cert"
	uidWord  = "uid:"
)

// OfToken is the proof that a token is.
func OfToken(token []byte) Proof { return Proof{kind: byToken, hash: sha256.Sum256(token)} }

// String is the proof as it stands in the file. It is no secret.
func (p Proof) String() string {
	switch p.kind {
	case byCert:
		return certWord
	case byUID:
		return uidWord + strconv.FormatUint(uint64(p.uid), 10)
	}
	return hashWord + hex.EncodeToString(p.hash[:])
}

// Short is String, with no more of a hash than tells one from another.
func (p Proof) Short() string {
	if p.kind == byToken {
		return p.String()[:len(hashWord)+shortHash]
	}
	return p.String()
}

const shortHash = 12

// RoleWord is a role with its prefix, as it stands in the file.
func RoleWord(role session.Role, prefix string) string {
	if prefix == "" {
		return role.String()
	}
	return role.String() + ":" + prefix
}

// String is the line.
func (e Entry) String() string {
	return e.Name + " " + RoleWord(e.Role, e.Prefix) + " " + e.Proof.String()
}

// maxName bounds a name, which stands in many lines of a log.
const maxName = 200

// CheckName tells why a name cannot be one.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name must not be empty")
	case len(name) > maxName:
		return fmt.Errorf("a name may have %d bytes", maxName)
	case name[0] == '#':
		return errors.New("a name cannot begin with #, which begins a comment")
	case !isWord(name):
		return errors.New("a name is one word, without blanks and control characters")
	}
	return nil
}

// isWord tells whether a text can be a word of the file.
func isWord(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}

// ParseRole reads ROLE[:PREFIX]. What it returns as an error does not repeat the
// word: that may be a token in the wrong place, and errors are logged.
func ParseRole(word string) (role session.Role, prefix string, err error) {
	word, prefix, prefixed := strings.Cut(word, ":")
	for _, r := range []session.Role{session.RoleLock, session.RoleRead, session.RoleAdmin, session.RoleNode} {
		if word == r.String() {
			role = r
		}
	}
	switch {
	case role == 0:
		return 0, "", errors.New("a role is lock, read, admin or node, or lock:PREFIX or read:PREFIX for names that begin so")
	case !prefixed:
		return role, "", nil
	case role == session.RoleAdmin:
		return 0, "", errors.New("admin cannot have a prefix: an administrator may end any client, and so free any lock; " +
			"write admin, or lock:PREFIX")
	case role == session.RoleNode:
		return 0, "", errors.New("node cannot have a prefix: another node of the cluster asks for all of its clients")
	case prefix == "":
		return 0, "", errors.New("the prefix behind the colon is missing: without the colon the role is for all names")
	case !isWord(prefix):
		return 0, "", errors.New("a prefix has no blanks or control characters")
	}
	return role, prefix, nil
}

// parseProof reads the last word, for the name in the first. Nor do its errors
// repeat the word.
func parseProof(word, name string) (Proof, error) {
	switch {
	case word == certWord:
		return Proof{kind: byCert, cert: name}, nil
	case strings.HasPrefix(word, uidWord):
		n, err := strconv.ParseUint(word[len(uidWord):], 10, 32)
		if err != nil || n == 1<<32-1 {
			return Proof{}, errors.New("a user's number follows uid:, as in uid:1000 (id -u NAME tells it)")
		}
		return Proof{kind: byUID, uid: uint32(n)}, nil
	case strings.HasPrefix(word, hashWord):
		p := Proof{kind: byToken}
		digits := word[len(hashWord):]
		if n, err := hex.Decode(p.hash[:], []byte(digits[:min(len(digits), 2*len(p.hash))])); err != nil || n != len(p.hash) || len(digits) != 2*n {
			return Proof{}, errors.New("64 hexadecimal digits follow sha256:, as of: printf %s TOKEN | sha256sum")
		}
		if p == OfToken(nil) {
			return Proof{}, errors.New("this is the hash of an empty token, such as of a variable that was not set")
		}
		return p, nil
	}
	return Proof{}, errors.New("how to know the client is sha256:HEX, cert or uid:N " +
		"(a token itself never stands in this file: lockd token add makes one, and its line)")
}

// parse reads a file, whose path is for errors: they begin as those of compilers
// do, FILE:LINE:COLUMN.
func parse(path string, text []byte) ([]Entry, error) {
	if len(bytes.TrimSpace(text)) == 0 {
		// Comments alone are what somebody has left; this is what an editor or a
		// full disk leaves.
		return nil, fmt.Errorf("%s is empty: if nobody is to be let in, leave a comment in it, # and a word", path)
	}
	var all []Entry
	proofs := make(map[Proof]Entry)
	names := make(map[string]Entry)
	number := 0
	for line := range bytes.Lines(text) {
		number++
		words := split(line)
		if len(words) == 0 {
			continue
		}
		wrong := func(w word, err error) ([]Entry, error) {
			return nil, fmt.Errorf("%s:%d:%d: %w", path, number, w.column, err)
		}
		if len(words) != 3 {
			last := words[min(len(words)-1, 3)]
			return wrong(last, fmt.Errorf("a line has three words, NAME ROLE[:PREFIX] HOW, and this has %d", len(words)))
		}
		e := Entry{Name: words[0].text, Line: number}
		var err error
		if err = CheckName(e.Name); err != nil {
			return wrong(words[0], err)
		}
		if e.Role, e.Prefix, err = ParseRole(words[1].text); err != nil {
			return wrong(words[1], err)
		}
		if e.Proof, err = parseProof(words[2].text, e.Name); err != nil {
			return wrong(words[2], err)
		}
		if other, ok := names[e.Name]; ok && (other.Role != e.Role || other.Prefix != e.Prefix) {
			return wrong(words[1], fmt.Errorf("%s has another role in line %d: a name has one role; take two names", e.Name, other.Line))
		}
		if other, ok := proofs[e.Proof]; ok {
			return wrong(words[2], fmt.Errorf("line %d, of %s, has the same: one of the two has to go", other.Line, other.Name))
		}
		if proofs[e.Proof] = e; names[e.Name].Line == 0 {
			names[e.Name] = e
		}
		all = append(all, e)
	}
	return all, nil
}

// A word has its place in the line, from 1 on.
type word struct {
	text   string
	column int
}

// split returns the words of a line, without the comment.
func split(line []byte) (words []word) {
	for at := 0; at < len(line); {
		if isBlank(line[at]) {
			at++
			continue
		}
		if line[at] == '#' {
			break
		}
		end := at
		for end < len(line) && !isBlank(line[end]) {
			end++
		}
		words = append(words, word{string(line[at:end]), at + 1})
		at = end
	}
	return words
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
