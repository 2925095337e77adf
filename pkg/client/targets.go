package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Several targets are ways to the same locks: the nodes of a cluster, or proxies of one
// server. One that answers will do.
type targets []target

// Targets takes apart an Options.Target that may have several targets in it, and returns
// each with its scheme. An error says what is wrong with which.
func Targets(s string) ([]string, error) {
	words := splitTargets(s)
	for _, word := range words {
		if _, err := parseTarget(word); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// splitTargets cuts at commas. One without a scheme has that of the one before it, lest
// tls://a:1,b:1 be half without TLS. That goes for HOST:PORT: in paths there may be commas.
func splitTargets(s string) (words []string) {
	scheme := ""
	for part := range strings.SplitSeq(s, ",") {
		switch before, _, is := strings.Cut(part, "://"); {
		case is:
			scheme = before
			words = append(words, part)
		case len(words) == 0:
			words = append(words, part)
		case scheme == "" || scheme == "tcp":
			words = append(words, part)
		case scheme == "tls":
			words = append(words, "tls://"+part)
		default:
			words[len(words)-1] += "," + part
		}
	}
	return words
}

func parseTargets(s string) (all targets, err error) {
	for _, word := range splitTargets(s) {
		to, err := parseTarget(word)
		if err != nil {
			return nil, err
		}
		all = append(all, to)
	}
	return all, nil
}

// String is for logs.
func (all targets) String() string {
	words := make([]string, len(all))
	for i, to := range all {
		words[i] = to.String()
	}
	return strings.Join(words, ",")
}

// order returns them in the order in which to try them: a random one, so that clients
// spread, but the one that has just been lost comes last.
func (all targets) order(last target) targets {
	if len(all) == 1 {
		return all
	}
	order := slices.Clone(all)
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	if i := slices.Index(order, last); i >= 0 {
		order = append(slices.Delete(order, i, i+1), last)
	}
	return order
}

// without returns the others.
func (all targets) without(one target) targets {
	return slices.DeleteFunc(slices.Clone(all), func(to target) bool { return to == one })
}

// silent is how long a target may be silent before the next one is tried as well.
const silent = 500 * time.Millisecond

// reach connects to the first of some targets that answers. Those that are refused are
// passed over at once, those that are silent after a moment. What has come too late is
// dropped.
func reach[T any](ctx context.Context, order targets, connect func(context.Context, target) (T, error), drop func(T)) (T, error) {
	if len(order) == 1 {
		return connect(ctx, order[0])
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		got T
		to  target
		err error
	}
	results := make(chan result, len(order))
	next, running := 0, 0
	begin := func() {
		to := order[next]
		next++
		running++
		go func() {
			got, err := connect(ctx, to)
			results <- result{got, to, err}
		}()
	}
	begin()
	timer := time.NewTimer(silent)
	defer timer.Stop()
	none := new(nobodyError)
	for running > 0 {
		var due <-chan time.Time
		if next < len(order) {
			due = timer.C
		}
		select {
		case r := <-results:
			running--
			if r.err == nil {
				cancel()
				for range running {
					if late := <-results; late.err == nil {
						drop(late.got)
					}
				}
				return r.got, nil
			}
			none.add(r.to, r.err)
			if next == len(order) || ctx.Err() != nil {
				continue
			}
		case <-due:
		}
		begin()
		timer.Reset(silent)
	}
	var nothing T
	return nothing, none
}

// A nobodyError says of several targets why none of them will do.
type nobodyError struct {
	to   targets
	errs []error
}

func (e *nobodyError) add(to target, err error) {
	e.to, e.errs = append(e.to, to), append(e.errs, err)
}

func (e *nobodyError) Error() string {
	var text []string
	for i, err := range e.errs {
		text = append(text, fmt.Sprintf("%v: %s", e.to[i], strings.TrimPrefix(err.Error(), "lockd: ")))
	}
	return "lockd: " + strings.Join(text, "; ")
}

// Unwrap leaves out that some do not know this client, as long as others might: waiting
// may help then.
func (e *nobodyError) Unwrap() []error {
	might := slices.DeleteFunc(slices.Clone(e.errs), isRefusal)
	if len(might) == 0 {
		return e.errs
	}
	return might
}

var errOneDial = errors.New("lockd: Options.Dial is one way: there cannot be several targets")
