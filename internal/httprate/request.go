package httprate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// An ask is what a request asks for.
type ask struct {
	name   string
	rate   shard.Rate
	cost   uint32
	denied int    // the status of a no
	policy string // by which the answer calls the rate: its name is nobody's business
}

// The parameters, each of which may stand in the query or in the body, once.
const (
	nameWord   = "name"
	byWord     = "by"
	limitWord  = "limit"
	windowWord = "window"
	costWord   = "cost"
	deniedWord = "denied"
	policyWord = "policy"
)

// parameters are the words, and which of them are numbers in JSON.
var parameters = map[string]struct{ number bool }{
	nameWord: {}, byWord: {}, limitWord: {true}, windowWord: {}, costWord: {true}, deniedWord: {true}, policyWord: {},
}

const parameterList = "limit, window, cost, name, by, denied and policy"

// The path, and the same without a name.
const (
	pathBefore = "/api/v1/rates/"
	pathAfter  = "/take"
)

// rateOf returns the name in a path, as it is written there; nil: it has none. The name
// may have slashes, as they are or encoded.
func rateOf(path string) (raw *string, ok bool) {
	rest, ok := strings.CutPrefix(path, pathBefore)
	if !ok {
		return nil, false
	}
	if "/"+rest == pathAfter {
		return nil, true
	}
	name, ok := strings.CutSuffix(rest, pathAfter)
	return &name, ok
}

func wrong(format string, args ...any) *refusal {
	return refuse(http.StatusBadRequest, fmt.Sprintf(format, args...))
}

// read reads a request whose path has a name, or nil.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, inPath *string) (*ask, error) {
	given := make(map[string]string, 4)
	if inPath != nil {
		name, err := url.PathUnescape(*inPath)
		if err != nil {
			return nil, wrong("the name in the path is not percent-encoded as it should be: %q", *inPath)
		}
		given[nameWord] = name
	}
	set := func(word, value string) error {
		if _, known := parameters[word]; !known {
			return wrong("there is no parameter %q: there are %s", word, parameterList)
		}
		if _, twice := given[word]; twice {
			return wrong("%s is given twice", word)
		}
		given[word] = value
		return nil
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, wrong("the query is not percent-encoded as it should be")
	}
	for word, values := range query {
		for _, value := range values {
			if err := set(word, value); err != nil {
				return nil, err
			}
		}
	}
	if r.Method == http.MethodPost {
		if err := readBody(w, r, set); err != nil {
			return nil, err
		}
	}
	return h.check(r, given)
}

// maxBody bounds a body.
const maxBody = 4 << 10

// readBody reads the parameters in a body, if there is one: a JSON object.
func readBody(w http.ResponseWriter, r *http.Request, set func(word, value string) error) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var timeout net.Error
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have %d bytes", maxBody), true}
	case errors.As(err, &timeout) && timeout.Timeout():
		return &refusal{http.StatusRequestTimeout, "the body did not come in time", true}
	case err != nil:
		return &refusal{http.StatusBadRequest, "the body ends too early", true}
	}
	if strings.TrimSpace(string(body)) == "" {
		return nil
	}
	const example = `{"limit": 100, "window": "1m", "cost": 1}`
	broken := wrong("the body is no JSON object such as %s", example)
	in := json.NewDecoder(strings.NewReader(string(body)))
	in.UseNumber()
	if t, err := in.Token(); err != nil || t != json.Delim('{') {
		return broken
	}
	for in.More() {
		word, err := in.Token()
		if err != nil {
			return broken
		}
		value, err := in.Token()
		if err != nil {
			return broken
		}
		var text string
		number := false
		switch value := value.(type) {
		case json.Number:
			text, number = value.String(), true
		case string:
			text = value
		default:
			return wrong("%v must be a number or a string, as in %s", word, example)
		}
		if err := set(word.(string), text); err != nil {
			return err
		}
		if parameters[word.(string)].number != number {
			return wrong("%v must be a %s, as in %s", word, map[bool]string{true: "string", false: "number"}[number], example)
		}
	}
	if _, err := in.Token(); err != nil { // the brace
		return broken
	}
	if _, err := in.Token(); err != io.EOF {
		return broken
	}
	return nil
}

// check makes sense of the parameters.
func (h *Handler) check(r *http.Request, given map[string]string) (*ask, error) {
	a := &ask{denied: http.StatusTooManyRequests, policy: "default"}
	most := h.cfg.Bounds
	limit, err := number(given, limitWord, 1, most.MaxLimit)
	if err != nil {
		return nil, err
	}
	window, err := h.window(given)
	if err != nil {
		return nil, err
	}
	cost := uint64(1)
	if _, ok := given[costWord]; ok {
		if cost, err = number(given, costWord, 0, limit); err != nil {
			return nil, err
		}
	}
	if denied, ok := given[deniedWord]; ok {
		switch denied {
		case "429":
		case "403":
			a.denied = http.StatusForbidden
		default:
			return nil, wrong("denied must be 429 or 403, not %.20q: the status of a no", denied)
		}
	}
	if policy, ok := given[policyWord]; ok {
		if a.policy = policy; !isPolicy(policy) {
			return nil, wrong("policy must be 1 to 64 letters, digits, -, _ and ., not %.80q", policy)
		}
	}
	a.rate = shard.Rate{Limit: uint32(limit), Window: uint64(window)}
	a.cost = uint32(cost)
	if a.name, err = name(r, given); err != nil {
		return nil, err
	}
	line := fmt.Sprintf("%s %d %d %d ", wire.TakeRate, limit, window.Milliseconds(), cost)
	if room := most.MaxLine - len(line); len(a.name) > room {
		return nil, wrong("the name has %d bytes, and may have %d here (--max-line)", len(a.name), max(0, room))
	}
	return a, nil
}

// number reads a number that has to be given.
func number(given map[string]string, word string, least, most uint64) (uint64, error) {
	text, ok := given[word]
	if !ok {
		return 0, wrong("%s is missing", word)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < least || n > most || text[0] == '+' {
		return 0, wrong("%s must be a number from %d to %d, not %.40q", word, least, most, text)
	}
	return n, nil
}

// window reads the window. It has to have a unit: the line protocol's numbers are
// milliseconds, and everybody else's seconds.
func (h *Handler) window(given map[string]string) (time.Duration, error) {
	text, ok := given[windowWord]
	if !ok {
		return 0, wrong("%s is missing", windowWord)
	}
	d, err := time.ParseDuration(text)
	if most := h.cfg.Bounds.MaxWindow; err != nil || d < time.Millisecond || d > most || d%time.Millisecond != 0 {
		return 0, wrong("window must be a time with its unit, such as 500ms, 10s or 1m, in whole milliseconds from 1ms to %dh, not %.40q",
			int(most.Hours()), text)
	}
	return d, nil
}

// name returns the name of the rate: the one that is given, with the value of the header
// field that it is by.
func name(r *http.Request, given map[string]string) (string, error) {
	text := given[nameWord]
	if field, ok := given[byWord]; ok {
		if !isField(field) {
			return "", wrong("by must be the name of a header field, such as X-Forwarded-For, not %.80q", field)
		}
		values := r.Header.Values(field)
		if len(values) > 1 {
			return "", wrong("the header has %d fields %s, and the name of the rate is by that one", len(values), field)
		}
		text += strings.Join(values, "")
	}
	folded, ok := wire.FoldName(text)
	switch {
	case !ok:
		return "", wrong("a name has no line breaks")
	case folded == "":
		return "", wrong("the name of the rate is empty")
	}
	return folded, nil
}

func isPolicy(text string) bool {
	return text != "" && len(text) <= 64 && strings.Trim(text, letters+"-_.") == ""
}

// isField tells whether a text can be the name of a header field (RFC 9110, 5.6.2).
func isField(text string) bool {
	return text != "" && len(text) <= 256 && strings.Trim(text, letters+"!#$%&'*+-.^_`|~") == ""
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
