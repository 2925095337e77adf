package main

import (
	"fmt"
	"strings"
)

// A weakness is a set of rules that are not kept. With each of them something has to go
// wrong, or the model does not show what the rule is for.
type weakness uint64

const (
	noCheck weakness = 1 << iota
	freeLate
	rightReply
	sameName
	oldMap
	balancerMoves
	noCompare
	impatient
	noAwait
	earlyEnd
	noNonce
	sameNonce
	unfreezes
	doubt
	oldAnswers
	receipt
	short
	noEnd
	homeAnswers
	extendMoved
	noHomeClaim
	homeStale
	freeSoon
	perHold
	byeSoon
	noGen
	noToken
	oldRepeat
	ghost
	oneClaim
	claimCreates
	lowWins
	noBase
	noCeil
)

// weaknesses has them in the order of the constants.
var weaknesses = []struct{ name, what string }{
	{"nocheck", "rule 4: an owner executes without the right to serve, as if it had paused after checking"},
	{"freelate", "rule 5: an owner without the right frees who is silent"},
	{"rightreply", "rule 3: the right counts from a heartbeat's answer"},
	{"samename", "rule 2: a new process takes over the registration of the one before it, by name"},
	{"oldmap", "rule 6: a node accepts a map older than the one it knows"},
	{"bmove", "rule 6: a balancer moves a partition without its owner"},
	{"nocompare", "rule 6: a deletion does not compare the registration"},
	{"impatient", "rule 15: a balancer deletes too soon, before the right to serve has ended"},
	{"noawait", "rule 7: a new owner serves at once"},
	{"earlyend", "rule 7: recovery ends when all homes that live have claimed"},
	{"nononce", "rule 8: a new owner serves any copy that it has"},
	{"samenonce", "rule 8: a second copy has the nonce of the first"},
	{"unfreeze", "rule 8: after its transaction was sent, an owner unfreezes when it reads an unchanged map"},
	{"doubt", "rule 8: an owner answers pings while the outcome of its transaction is unknown"},
	{"oldanswers", "rule 9: a home takes answers given under a newer map than it knows"},
	{"receipt", "rule 9: a lease counts from the receipt of an answer"},
	{"short", "rule 9: a home confirms though less than the client's deadline is left of the lease"},
	{"noend", "rule 9: the end of a lease ends nobody"},
	{"homeanswers", "rule 9: end to end, but a home answers a ping by itself"},
	{"extendmoved", "rule 9: later answers of the old owner extend the lease after a move"},
	{"nohomeclaim", "rule 10: a home takes the new owner's lease without a claim"},
	{"homestale", "rule 10: a home claims after the deadline"},
	{"freesoon", "rule 11: an owner frees a tick too soon"},
	{"perhold", "rule 11: a request counts for its own hold, not for all that is held by its link"},
	{"byesoon", "rule 11: a home says bye for a client that has just gone elsewhere"},
	{"nogen", "rule 12: generations are not compared"},
	{"notoken", "rule 12: a release does not name its token"},
	{"oldrepeat", "mended rule 12: while it recovers, an owner grants again what was claimed in an earlier generation"},
	{"ghost", "rule 12: a request in an old link is executed after the new one has begun"},
	{"oneclaim", "rule 12: of a shared lock one hold is claimed only"},
	{"claimcreates", "rule 12: a claim outside recovery creates a hold"},
	{"lowwins", "rule 7: the first claim wins, not the one with the higher token"},
	{"nobase", "rule 13: a deletion does not raise the base"},
	{"noceil", "rule 13: tokens are granted above the ceiling"},
}

func parseWeak(list string) (w weakness, err error) {
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
		found := false
		for i, k := range weaknesses {
			if k.name == name {
				w, found = w|1<<i, true
			}
		}
		if !found {
			return 0, fmt.Errorf("there is no rule %q to weaken", name)
		}
	}
	return w, nil
}

func (w weakness) String() string {
	var names []string
	for i, k := range weaknesses {
		if w&(1<<i) != 0 {
			names = append(names, k.name)
		}
	}
	return strings.Join(names, ",")
}
