package main

import (
	"context"
	"errors"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// topPatience is how long a server may take to answer, and to be connected to.
const topPatience = 5 * time.Second

// A topPoller asks a server, over one connection, which is made again when it is
// lost: a request at a time, by whoever calls.
type topPoller struct {
	connect func() (topSource, func(), error)
	source  topSource // nil: there is no connection
	close   func()
	version *string // nil: not asked for yet
}

// poll asks for a picture.
func (p *topPoller) poll(ctx context.Context, want topWant) *topPicture {
	pic := &topPicture{want: want}
	begun := time.Now()
	pic.lost = p.ask(ctx, pic)
	if errors.Is(pic.lost, client.ErrLost) {
		p.end()
	}
	pic.at = time.Now()
	pic.took = pic.at.Sub(begun)
	return pic
}

func (p *topPoller) end() {
	if p.source != nil {
		p.close()
		p.source, p.version = nil, nil
	}
}

// ask returns an error if there is no picture: that one may not have a part of
// it is none.
func (p *topPoller) ask(ctx context.Context, pic *topPicture) (err error) {
	if p.source == nil {
		if p.source, p.close, err = p.connect(); err != nil {
			p.source = nil
			return err
		}
	}
	s, want := p.source, pic.want
	if want.kick != "" {
		if pic.kickErr = s.Kick(ctx, want.kick); pic.kickErr == nil {
			pic.kicked = want.kick
		}
		if errors.Is(pic.kickErr, client.ErrLost) { // one can end oneself
			return pic.kickErr
		}
	}
	pic.numbers, pic.numbersErr = s.Numbers(ctx)
	if fatal(pic.numbersErr) {
		return pic.numbersErr
	}
	if want.mine {
		pic.locks, pic.mineErr = s.Locks(ctx, topMost, topAll)
		if pic.mineErr == nil {
			pic.clients, pic.mineErr = s.Clients(ctx, topMost, "locks")
		}
		if fatal(pic.mineErr) {
			return pic.mineErr
		}
	}
	switch want.view {
	case viewLocks:
		if !want.mine {
			pic.locks, pic.listErr = locksBy(ctx, s, want.count, want.order)
		}
	case viewClients:
		if !want.mine {
			pic.clients, pic.listErr = s.Clients(ctx, want.count, want.order)
		}
	case viewLosses:
		pic.losses, pic.listErr = s.Losses(ctx, want.count, nil)
	}
	if fatal(pic.listErr) {
		return pic.listErr
	}
	if want.lock != nil {
		pic.entries, pic.entriesErr = s.Look(ctx, *want.lock)
		if fatal(pic.entriesErr) {
			return pic.entriesErr
		}
		pic.lossesOf, pic.lossesErr = s.Losses(ctx, topLosses, want.lock)
		if fatal(pic.lossesErr) {
			return pic.lossesErr
		}
	}
	// Last, since it takes a connection of its own, which would be among the clients.
	if p.version == nil {
		version := s.Version(ctx)
		p.version = &version
	}
	pic.version = *p.version
	return nil
}

// locksBy returns the first of an order. Locks for which nobody waits, or asks, are in
// none but one of a server's orders: where there is room behind the others, they
// follow.
func locksBy(ctx context.Context, s topSource, count int, order string) ([]client.TopLock, error) {
	locks, err := s.Locks(ctx, count, order)
	if err != nil || len(locks) >= count || order == topAll {
		return locks, err
	}
	others, err := s.Locks(ctx, count, topAll)
	if err != nil {
		return nil, err
	}
	type id struct {
		name string
		kind client.Kind
	}
	there := make(map[id]bool, len(locks))
	for _, l := range locks {
		there[id{l.Name, l.Kind}] = true
	}
	for _, l := range others {
		if len(locks) < count && !there[id{l.Name, l.Kind}] {
			locks = append(locks, l)
		}
	}
	return locks, nil
}

// topAll is the order in which every lock that is held has a place.
const topAll = string(client.OldestHold)

// fatal tells whether an error is of the server or of all that one may ask, not of
// one question.
func fatal(err error) bool {
	return err != nil && !errors.Is(err, client.ErrDisabled) && !errors.Is(err, client.ErrNotAllowed) && !errors.Is(err, client.ErrUnsupported)
}
