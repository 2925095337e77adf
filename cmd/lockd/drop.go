package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nylen/lockd/pkg/client"
)

type dropCmd struct {
	oneshot
	emptyName
	Names []lockName `arg:"" name:"name" help:"The rates."`
}

func (*dropCmd) Help() string {
	return `Drops rates, so that all units of them are open again, as if nobody had taken
any:

	lockd drop 'login 10.0.0.7'

It is for a client that was limited by mistake, and for one that has filled the
server's table with rates that last for a day. Locks are not dropped, nor holds of
a shared lock: to have these free, end their holder with lockd kick. To list
rates: lockd dump -l, or lockd inspect NAME.

Exit codes:

	0   all of them were there, and are not any more
	1   of one of them all units were open already
	2   wrong usage
	69  the server cannot be reached, refused, or is too old

The JSON document: dropped and missing, lists of names.`
}

// Validate is called by kong.
func (c *dropCmd) Validate() error {
	if err := c.remote.Validate(); err != nil {
		return err
	}
	if slices.Contains(c.Names, "") && !c.EmptyName {
		return fmt.Errorf("<name>: %w", errEmptyName)
	}
	return nil
}

func (c *dropCmd) Run() error {
	answer := struct {
		Dropped []string `json:"dropped"`
		Missing []string `json:"missing"`
	}{[]string{}, []string{}}
	err := c.do(func(ctx context.Context, cl *client.Client) error {
		for _, n := range c.Names {
			switch err := cl.DropRate(ctx, string(n)); {
			case err == nil:
				answer.Dropped = append(answer.Dropped, string(n))
			case errors.Is(err, client.ErrNoSuchRate):
				answer.Missing = append(answer.Missing, string(n))
			case errors.Is(err, client.ErrNoDropRate):
				return errors.New("the server is too old to drop rates")
			case errors.Is(err, client.ErrNotAllowed):
				return errors.New("not allowed: the server lets only administrators do this")
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var rows [][]string
	for _, n := range answer.Dropped {
		rows = append(rows, []string{"dropped " + plain(n)})
	}
	if err := c.print(answer, rows); err != nil {
		return err
	}
	if len(answer.Missing) > 0 {
		var missing []string
		for _, n := range answer.Missing {
			missing = append(missing, plain(n))
		}
		fail(exitFree, "no such rate: "+strings.Join(missing, ", "))
	}
	return nil
}
