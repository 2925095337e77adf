package load

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/nylen/lockd/internal/wire"
)

// A dialect is how a kind of server is asked for a lock.
type dialect struct {
	name       string
	eol        string // ends a reply
	headLength bool   // the name's length stands before it, as RESP wants
	named      bool   // replies end in the name
	full       string // begins what one connection too many gets to hear
	frees      bool   // a lock is free again when its connection ends
	mixes      map[Mix][2]*request
}

// A request is a kind of request, and the replies that it can get.
type request struct {
	verb string // for messages
	// head and tail stand before and after the name. In RESP the head is
	// completed by the name's length.
	head, tail string
	// A reply that starts with yes does what was asked for, one that starts
	// with no refuses, unless no is empty. With counted, a number and a blank
	// stand before; then 0 means no.
	yes, no string
	counted bool
	// refusal names a refusal in reports; empty if no is no refusal but an
	// answer.
	refusal int
	// holds: from this request to the next the connection holds a lock.
	holds bool
}

// Kinds of refusals and errors in reports.
const (
	answered = iota
	getRefused
	releaseRefused
	tooManyConnections
	errorReply // the server says that it failed: counted, the run goes on
	unanswered
	lostConnection // a short one, without its reply
	kinds
)

var kindNames = [kinds]string{
	getRefused:         "get refused",
	releaseRefused:     "release refused",
	tooManyConnections: "too many connections",
	errorReply:         "error reply",
	unanswered:         "no reply",
	lostConnection:     "connection lost",
}

var dialects = map[string]*dialect{
	"lockd": {
		name: "lockd", eol: "\n", named: true, full: wire.TooManyConnections, frees: true,
		mixes: map[Mix][2]*request{
			Exclusive: {
				ask(wire.Get, wire.GetSuccess, wire.GetFailure, getRefused),
				ask(wire.Release, wire.ReleaseSuccess, wire.ReleaseFailure, releaseRefused),
			},
			Shared: {
				ask(wire.GetShared, wire.SharedGetSuccess, "", getRefused), // it has no limit
				ask(wire.ReleaseShared, wire.SharedReleaseSuccess, wire.SharedReleaseFailure, releaseRefused),
			},
			Inspect: both(ask(wire.Inspect, wire.IsLocked, wire.NotLocked, answered)),
		},
	},
	"redis": {
		name: "redis", eol: "\r\n", headLength: true, full: "-ERR max number of clients",
		mixes: map[Mix][2]*request{
			Exclusive: {
				{verb: "SET", head: "*4\r\n$3\r\nSET\r\n$", tail: "\r\n$1\r\n1\r\n$2\r\nNX\r\n", yes: "+OK\r\n", no: "$-1\r\n", refusal: getRefused, holds: true},
				{verb: "DEL", head: "*2\r\n$3\r\nDEL\r\n$", tail: "\r\n", yes: ":1\r\n", no: ":0\r\n", refusal: releaseRefused},
			},
			Inspect: both(&request{verb: "EXISTS", head: "*2\r\n$6\r\nEXISTS\r\n$", tail: "\r\n", yes: ":1\r\n", no: ":0\r\n"}),
		},
	},
	"memcached": {
		name: "memcached", eol: "\r\n", full: "ERROR Too many open connections",
		mixes: map[Mix][2]*request{
			Exclusive: {
				{verb: "add", head: "add ", tail: " 0 0 1\r\n1\r\n", yes: "STORED\r\n", no: "NOT_STORED\r\n", refusal: getRefused, holds: true},
				{verb: "delete", head: "delete ", tail: "\r\n", yes: "DELETED\r\n", no: "NOT_FOUND\r\n", refusal: releaseRefused},
			},
			Inspect: both(&request{verb: "mg", head: "mg ", tail: "\r\n", yes: "HD\r\n", no: "EN\r\n"}),
		},
	},
}

// ask returns one of lockd's requests.
func ask(verb, yes, no string, refusal int) *request {
	return &request{verb: verb, head: verb + " ", tail: "\n", counted: true, yes: yes, no: no, refusal: refusal, holds: refusal == getRefused}
}

func both(q *request) [2]*request { return [2]*request{q, q} }

// mix returns the two requests that are sent in turn.
func (d *dialect) mix(m Mix) ([2]*request, error) {
	q, ok := d.mixes[m]
	if !ok {
		return q, fmt.Errorf("%s has no %s locks: choose another mix", d.name, m)
	}
	return q, nil
}

// errorPrefixes start a reply that says that the server failed. They differ
// from all other replies of all dialects.
var errorPrefixes = []string{"-", "ERROR", "CLIENT_ERROR", "SERVER_ERROR", "0 " + wire.TooManyLocks}

// judge tells what kind of answer a line is, its end included, or that it is
// none to this request.
func (d *dialect) judge(q *request, line []byte, names *namer, number uint32) (kind int, ok bool) {
	rest := line
	zero := false
	if q.counted {
		i := 0
		for i < len(line) && '0' <= line[i] && line[i] <= '9' {
			i++
		}
		if i == 0 || i == len(line) || line[i] != ' ' {
			return 0, false
		}
		zero = line[0] == '0'
		rest = line[i+1:]
	}
	switch {
	case hasPrefix(rest, q.yes) && !zero:
		kind = answered
	case q.no != "" && hasPrefix(rest, q.no) && zero == q.counted:
		kind = q.refusal
	default:
		for _, p := range errorPrefixes {
			if hasPrefix(line, p) {
				return errorReply, true
			}
		}
		return 0, false
	}
	return kind, !d.named || names.ends(line[:len(line)-len(d.eol)], number)
}

// denies tells what a line means that is for none of the requests, nor for those to
// come: that we may not make them. The names of a load begin with its own prefix.
func (d *dialect) denies(line []byte) error {
	switch {
	case d.named && hasPrefix(line, wire.NotAuthenticated):
		return errors.New("the server asks for a token")
	case d.named && hasPrefix(line, "0 "+wire.NotAllowed):
		return fmt.Errorf("the server does not allow that: %q", bytes.TrimSpace(line))
	}
	return nil
}

func hasPrefix(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && string(b[:len(prefix)]) == prefix
}

// line returns the first line of in, its end included, or nil.
func line(in []byte) []byte {
	return in[:bytes.IndexByte(in, '\n')+1]
}
