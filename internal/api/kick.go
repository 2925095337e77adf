package api

import (
	"context"
	"encoding/json"
	"io"
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

// kick ends a client. The body says nothing, but that it is there, as JSON, tells that
// no page of another site has sent it: a browser lets none do that.
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
	var options struct{}
	switch {
	case err != nil:
		fail(c.w, http.StatusBadRequest, "the body could not be read, or is too long")
		return
	case json.Unmarshal(body, &options) != nil:
		fail(c.w, http.StatusBadRequest, "the body is no JSON object: {}")
		return
	}
	control := http.NewResponseController(c.w)
	control.SetReadDeadline(time.Time{}) // or the request would end with it
	control.SetWriteDeadline(time.Now().Add(kickWait + eventTime))
	ctx, cancel := context.WithTimeout(c.r.Context(), kickWait)
	defer cancel()
	found, ended := a.cfg.Hub.Kick(ctx, c.args[0], session.Kicker{Address: c.r.RemoteAddr, Access: who.Access})
	switch {
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
