package state

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/lockfile"
)

// content is what is in a file.
type content struct {
	boot  string
	floor uint64
	keys  map[Key]uint64 // milliseconds
}

// Words in the place of a start of the machine's identity.
const (
	missing = "missing" // there was no file, and it has not been waited for those it may have had in it
	unknown = "unknown" // the system does not tell
	after   = "after:"  // and milliseconds: the file follows others' servers, and it has not been waited for theirs
)

// following tells whether a file follows others' servers, and for how long their holders may
// believe in what they held.
func (c *content) following() (lasts time.Duration, follows bool) {
	text, follows := strings.CutPrefix(c.boot, after)
	ms, _ := strconv.ParseUint(text, 10, 32)
	return time.Duration(ms) * time.Millisecond, follows
}

// header is the first line.
const header = "lockd state 1"

// most is how large a file may be: some ten million clients.
const most = 1 << 30

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line appends the checksum of a line.
func line(text string) string {
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}

func bootLine(boot string) string   { return line("boot " + boot) }
func floorLine(floor uint64) string { return line("floor " + strconv.FormatUint(floor, 10)) }
func goneLine(key Key) string       { return line("gone " + hex.EncodeToString(key[:])) }
func keyLine(k Key, ms uint64) string {
	return line("key " + hex.EncodeToString(k[:]) + " " + strconv.FormatUint(ms, 10))
}

// text is all of it.
func (c *content) text() string {
	b := new(strings.Builder)
	b.WriteString(line(header))
	b.WriteString(bootLine(c.boot))
	b.WriteString(floorLine(c.floor))
	for _, key := range c.sorted() {
		b.WriteString(keyLine(key, c.keys[key]))
	}
	return b.String()
}

func (c *content) sorted() []Key {
	keys := make([]Key, 0, len(c.keys))
	for key := range c.keys {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b Key) int { return bytes.Compare(a[:], b[:]) })
	return keys
}

// size is about how long that is.
func (c *content) size() int64 { return int64(100 + 90*len(c.keys)) }

// read reads a file, and tells how many bytes of an unfinished last line were dropped.
// Whose it is matters to a server (own), which has to replace it, and not to who may look
// at it: root.
func read(path string, own bool) (_ *content, torn int, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() { // another kind could block
		return nil, 0, errors.New("it is not a regular file")
	}
	if uid, foreign := lockfile.Owner(info); own && foreign {
		return nil, 0, fmt.Errorf("it belongs to another user (%d): give it to the server's (chown), or start the server as that one", uid)
	}
	if info.Size() > most {
		return nil, 0, errors.New("it is too large to be a state file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read it: %w", lockfile.Bare(err))
	}
	return parse(text)
}

// damaged is what is wrong with a file, and what to do.
func damaged(n int, what string) error {
	return fmt.Errorf("line %d %s: the file is damaged, or none of lockd's. "+
		"Move it away, and the server waits at its next start for all whom it may have kept. (An old copy would be worse: it does not know them.)", n, what)
}

// parse understands what is in a file.
func parse(text []byte) (_ *content, torn int, err error) {
	c := &content{keys: map[Key]uint64{}}
	whole := bytes.LastIndexByte(text, '\n') + 1
	torn = len(text) - whole
	rest := text[:whole]
	if whole == 0 {
		return nil, 0, damaged(1, "is no beginning of one")
	}
	for n := 1; len(rest) > 0; n++ {
		end := bytes.IndexByte(rest, '\n')
		one := string(rest[:end])
		rest = rest[end+1:]
		body, ok := check(one)
		switch {
		case n == 1 && strings.HasPrefix(one, "lockd state ") && !strings.HasPrefix(one, header+" "):
			return nil, 0, fmt.Errorf("it is of another version of lockd (%.40q): use that one, or move the file away", one)
		case !ok:
			return nil, 0, damaged(n, "has a wrong checksum")
		}
		if !c.take(n, body) {
			return nil, 0, damaged(n, "makes no sense")
		}
	}
	if c.boot == "" || c.floor == 0 {
		return nil, 0, damaged(3, "is missing")
	}
	return c, torn, nil
}

// check returns a line without its checksum, if that is right.
func check(one string) (body string, ok bool) {
	i := strings.LastIndexByte(one, ' ')
	if i < 0 || line(one[:i]) != one+"\n" {
		return "", false
	}
	return one[:i], true
}

// take takes in what a line says.
func (c *content) take(n int, body string) bool {
	if n == 1 {
		return body == header
	}
	word, rest, _ := strings.Cut(body, " ")
	switch word {
	case "boot":
		c.boot = rest
		if ms, follows := strings.CutPrefix(rest, after); follows {
			_, err := strconv.ParseUint(ms, 10, 32)
			return err == nil
		}
		return rest != "" && !strings.ContainsAny(rest, " \t")
	case "floor":
		floor, err := strconv.ParseUint(rest, 10, 64)
		c.floor = max(c.floor, floor)
		return err == nil && floor > 0 && floor < 1<<53
	case "key":
		digits, ms, _ := strings.Cut(rest, " ")
		key, ok := parseKey(digits)
		lasts, err := strconv.ParseUint(ms, 10, 32)
		c.keys[key] = lasts
		return ok && err == nil
	case "gone":
		key, ok := parseKey(rest)
		delete(c.keys, key)
		return ok
	}
	return false
}

func parseKey(digits string) (key Key, ok bool) {
	if len(digits) != 2*len(key) {
		return key, false
	}
	_, err := hex.Decode(key[:], []byte(digits))
	return key, err == nil
}

// New writes a file for a first start: this machine's, with nobody kept. It refuses one
// that exists.
func New(path string) error { return begin(path, content{boot: here()}) }

// here is what a file says that is this machine's.
func here() string {
	if boot := BootID(); boot != "" {
		return boot
	}
	return unknown
}

// NewAfter writes a file for a server that follows others, which have all ended: all their
// tokens are below floor. They had other files or none, and their holders may not know yet
// that they are gone, and for so long at most believe in what they held: the server waits
// for these.
func NewAfter(path string, floor uint64, lasts time.Duration) error {
	ms := min(max(lasts, 0).Milliseconds(), math.MaxUint32)
	return begin(path, content{boot: after + strconv.FormatInt(ms, 10), floor: floor})
}

// NewInPlaceOf writes a file for a server whose last file is old, and that has to wait for
// nobody: who is kept there is forgotten, tokens are above all that it allows.
func NewInPlaceOf(path, old string) error {
	s, done, err := Last(old)
	if err != nil {
		return err
	}
	defer done()
	return begin(path, content{boot: here(), floor: s.Floor})
}

// Free tells whether there is none.
func Free(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: there is one already: `lockd state show` tells what is in it, and without it nobody knows whom the server has kept", path)
	}
	return nil
}

// begin writes a file where there is none.
func begin(path string, c content) error {
	lock, err := take(path)
	if err != nil {
		return err
	}
	defer lock.Remove()
	if err := Free(path); err != nil {
		return err
	}
	c.floor = max(c.floor, now())
	file, err := create(osDisk{}, path, c.text())
	if err != nil {
		return fmt.Errorf("%s: cannot write it: %w", path, lockfile.Bare(err))
	}
	return file.Close()
}

// A Summary is what is in a file, for people.
type Summary struct {
	Boot    string
	Missing bool // there was none when the server started
	Here    bool // it is of this start of this machine
	Follows bool // it follows others' servers, and none has waited for their holders
	Floor   uint64
	Keys    []uint64 // for how many milliseconds each client is kept, sorted
	Torn    int
}

// Show reads a file, which a server may have at the time.
func Show(path string) (*Summary, error) {
	c, torn, err := read(path, false)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, lockfile.Bare(err))
	}
	s := &Summary{Boot: c.boot, Missing: c.boot == missing, Here: c.boot == BootID(), Floor: c.floor, Torn: torn}
	_, s.Follows = c.following()
	for _, ms := range c.keys {
		s.Keys = append(s.Keys, ms)
	}
	slices.Sort(s.Keys)
	return s, nil
}

// Last reads a file whose server has ended, and keeps others from having it until done is
// called.
func Last(path string) (s *Summary, done func(), err error) {
	if _, err := os.Lstat(path); err != nil { // before anything is made beside it
		return nil, nil, fmt.Errorf("%s: %w", path, lockfile.Bare(err))
	}
	lock, err := take(path)
	if err != nil {
		return nil, nil, err
	}
	if s, err = Show(path); err != nil {
		lock.Remove()
		return nil, nil, err
	}
	return s, func() { lock.Remove() }, nil
}

// create writes a file beside its place, and puts it there when it is durable.
func create(d disk, path, text string) (_ *os.File, err error) {
	temporary := path + ".new"
	// One that a crash has left, or a link that somebody has put there: what it leads to
	// must not become the file.
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			file.Close()
			os.Remove(temporary)
		}
	}()
	if err := file.Chmod(0o600); err != nil && lockfile.Works {
		return nil, err
	}
	if _, err := d.write(file, text); err != nil {
		return nil, err
	}
	if err := d.sync(file); err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil { // Windows renames no open file
		return nil, err
	}
	if err := d.rename(temporary, path); err != nil {
		return nil, err
	}
	if err := d.syncFolder(path); err != nil {
		return nil, err
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
}
