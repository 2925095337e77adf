package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A call is a request that has found its route.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	args []string // what stands for the path's segments in braces

	query url.Values // once somebody has asked for it
	wrong string     // with the query; "": nothing yet
}

// param returns a parameter of the query, "" if it is not there.
func (c *call) param(name string) string {
	if c.query == nil {
		var err error
		if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
			c.refuse("the query cannot be read: percent-encode all but letters and digits")
		}
	}
	return c.query.Get(name)
}

// refuse notes what is wrong with the query.
func (c *call) refuse(format string, args ...any) {
	if c.wrong == "" {
		c.wrong = fmt.Sprintf(format, args...)
	}
}

// oneOf returns a parameter that is one of some words, or "".
func (c *call) oneOf(name string, words ...string) string {
	value := c.param(name)
	if value == "" {
		return ""
	}
	for _, w := range words {
		if value == w {
			return value
		}
	}
	c.refuse("%s must be one of %s, not %q", name, strings.Join(words, ", "), value)
	return ""
}

// How many rows a page has.
const (
	pageRows   = 100
	mostRows   = 1000
	mostFilter = 64 << 10 // bytes of a text that is searched for
)

func (c *call) limit() int {
	value := c.param("limit")
	if value == "" {
		return pageRows
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > mostRows {
		c.refuse("limit must be a number from 1 to %d, not %q", mostRows, value)
		return pageRows
	}
	return n
}

// bad answers a request whose query is wrong, and tells whether it is.
func (c *call) bad() bool {
	if c.wrong != "" {
		fail(c.w, http.StatusBadRequest, c.wrong)
	}
	return c.wrong != ""
}

// Fail answers that something went wrong.
func Fail(w http.ResponseWriter, code int, text string) { fail(w, code, text) }

func fail(w http.ResponseWriter, code int, text string) {
	body, _ := json.Marshal(struct {
		Error string `json:"error"`
	}{text})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(append(body, '\n'))
}

// busy answers that somebody has to come again.
func busy(w http.ResponseWriter, text string) {
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, text)
}

// A reply is one that has been made, for all who ask for the same.
type reply struct {
	body []byte
	tag  string
}

func newReply(value any) *reply {
	body, err := json.Marshal(value)
	if err != nil {
		panic(err) // none of our types has anything that cannot be
	}
	return taggedReply(append(body, '\n'))
}

func taggedReply(body []byte) *reply {
	sum := sha256.Sum256(body)
	return &reply{body, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// answer sends a value.
func (c *call) answer(value any) { c.send(newReply(value)) }

// send sends a reply, or that it is the one that the asker has.
func (c *call) send(r *reply) {
	h := c.w.Header()
	if c.r.Method != http.MethodPost {
		h.Set("ETag", r.tag)
		if has(c.r.Header.Get("If-None-Match"), r.tag) {
			c.w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(r.body)))
	c.w.Write(r.body)
}

// has tells whether a list of tags has one of them.
func has(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
