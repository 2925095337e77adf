package api

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"mime"
	"net/http"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// kickWait is how long the reply to a kick waits for what the client held to be free.
// One that holds millions of locks takes its time.
const kickWait = 10 * time.Second

// mostBody is how many bytes the body of a request has at most.
const mostBody = 4 << 10

// kickOptions are the body. That there is one, as JSON, tells that no page of another
// site has sent it: a browser lets none do that.
type kickOptions struct {
	// For how long the client has been connected at least. Who has looked at one, and
	// thought about it, says so, or would end who has got its address meanwhile.
	MinAgeMS int64 `json:"min_age_ms"`
}

// mostAge keeps what is asked for within what a duration holds.
const mostAge = int64(math.MaxInt64 / time.Millisecond)

// kick ends a client.
func (a *API) kick(c *call) {
	who := askerOf(c.r)
	if !who.Admin {
		fail(c.w, http.StatusForbidden, "to end a client takes role admin")
		return
	}
	if kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(c.w, http.StatusUnsupportedMediaType, "send a body of Content-Type application/json: {}")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, mostBody))
	var options kickOptions
	switch {
	case err != nil:
		fail(c.w, http.StatusBadRequest, "the body could not be read, or is too long")
		return
	case json.Unmarshal(body, &options) != nil:
		fail(c.w, http.StatusBadRequest, `the body is no JSON object, {} or {"min_age_ms": NUMBER}`)
		return
	case options.MinAgeMS < 0 || options.MinAgeMS > mostAge:
		fail(c.w, http.StatusBadRequest, "min_age_ms must be a number of milliseconds")
		return
	}
	control := http.NewResponseController(c.w)
	control.SetReadDeadline(time.Time{}) // or the request would end with it
	control.SetWriteDeadline(time.Now().Add(kickWait + eventTime))
	ctx, cancel := context.WithTimeout(c.r.Context(), kickWait)
	defer cancel()
	found, ended := a.cfg.Hub.Kick(ctx, c.args[0], session.Kicker{
		Address: c.r.RemoteAddr, Access: who.Access, MinAge: time.Duration(options.MinAgeMS) * time.Millisecond,
	})
	switch {
	case !found && options.MinAgeMS > 0:
		fail(c.w, http.StatusNotFound, "there is no client "+c.args[0]+" that has been connected for so long: it is gone")
	case !found:
		fail(c.w, http.StatusNotFound, "there is no client "+c.args[0])
	case !ended:
		reply := newReply(kicked{true, false})
		c.w.Header().Set("Content-Type", "application/json")
		c.w.WriteHeader(http.StatusAccepted)
		c.w.Write(reply.body)
	default:
		c.answer(kicked{true, true})
	}
}

type kicked struct {
	Kicked bool `json:"kicked"`
	Freed  bool `json:"freed"` // what it held is free
}
