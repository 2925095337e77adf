package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// Limits is a middleware that bounds how many requests are served at a time,
// and how many in a time, by all the processes that use the same lockd server
// and the same names.
type Limits struct {
	Locker *client.Locker

	// Name begins the names of the locks and rates.
	Name string

	// Concurrent is how many requests are served at a time. One that finds as
	// many waits in the queue, for up to Wait, and is refused with 503.
	Concurrent int
	Wait       time.Duration

	// Rate is how many requests of one visitor are let in per Per. One that is
	// over it is refused with 429.
	Rate int
	Per  time.Duration

	// Visitor tells visitors apart, by what they cannot make up: who is logged
	// in, or where the connection comes from.
	Visitor func(*http.Request) string

	// Open serves requests without limits while lockd cannot be asked;
	// otherwise they are refused with 503.
	Open bool
}

// Wrap puts the limits before a handler.
func (l *Limits) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Bounds the wait for lockd, too, should there be no connection.
		ctx, cancel := context.WithTimeout(r.Context(), l.Wait)
		defer cancel()

		rate := l.Locker.Limiter(l.Name+" rate "+l.Visitor(r), l.Rate, l.Per)
		switch d, err := rate.Allow(ctx); {
		case err != nil:
			l.without(w, r, next, err)
			return
		case !d.Allowed:
			refuse(w, http.StatusTooManyRequests, d.RetryAfter)
			return
		}

		lock, err := l.Locker.AcquireShared(ctx, l.Name+" at a time", l.Concurrent)
		switch {
		case r.Context().Err() != nil:
			if err == nil {
				lock.Release(ended)
			}
			return // the visitor has gone
		case errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, client.ErrLost):
			refuse(w, http.StatusServiceUnavailable, l.Wait)
			return
		case err != nil:
			l.without(w, r, next, err)
			return
		}
		// Should the lock be lost meanwhile, the request is served to its end:
		// for a moment there may be more at a time.
		defer lock.Release(ended)
		next.ServeHTTP(w, r)
	})
}

// ended is a context that has ended. A lock that is released with it is
// released, but nobody waits for lockd's word: the response of a visitor whose
// request was served should not.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// without serves or refuses a request when lockd cannot be asked.
func (l *Limits) without(w http.ResponseWriter, r *http.Request, next http.Handler, err error) {
	if r.Context().Err() != nil {
		return // the visitor has gone
	}
	slog.Warn("lockd cannot be asked", "err", err)
	if l.Open {
		next.ServeHTTP(w, r)
		return
	}
	refuse(w, http.StatusServiceUnavailable, l.Wait)
}

// refuse tells when to try again, in whole seconds as HTTP wants it.
func refuse(w http.ResponseWriter, status int, retry time.Duration) {
	seconds := max(1, int64((retry+time.Second-1)/time.Second))
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	http.Error(w, fmt.Sprintf("%s: try again in %d s", http.StatusText(status), seconds), status)
}
