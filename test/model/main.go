package main

import (
	"flag"
	"fmt"
)

func main() {
	c := Config{Nodes: 2, Clients: 2, Parts: 1, Limit: 1, Homes: []int{0, 1, 1}, Owners: []int{0, 1}, W: 2, BW: 2, G: 3, Link: 3, Client: 2, Crashes: 0, Changes: 1, Moves: 0, Resumes: 0, Max: 20_000_000, MaxToken: 3, Reserve: 2}
	var w string
	u8 := func(p *uint8, n string) { flag.Func(n, "", func(s string) error { var v int; fmt.Sscan(s, &v); *p = uint8(v); return nil }) }
	flag.StringVar(&w, "weak", "", "")
	flag.IntVar(&c.Nodes, "nodes", 2, "")
	flag.IntVar(&c.Clients, "clients", 2, "")
	flag.IntVar(&c.Parts, "parts", 1, "")
	flag.IntVar(&c.Limit, "limit", 1, "")
	flag.IntVar(&c.Max, "max", 20_000_000, "")
	u8(&c.G, "G"); u8(&c.W, "W"); u8(&c.BW, "BW"); u8(&c.Link, "link"); u8(&c.Client, "client"); u8(&c.Crashes, "crashes"); u8(&c.Changes, "changes"); u8(&c.Moves, "moves"); u8(&c.Resumes, "resumes")
	flag.BoolVar(&c.EndToEnd, "e2e", false, "")
	flag.BoolVar(&c.Tokens, "tokens", false, "")
	flag.BoolVar(&c.SlowBeats, "slow", false, "")
	flag.BoolVar(&c.Idle, "idle", false, "")
	h := flag.Bool("home1", false, "")
	third := flag.Bool("third", false, "")
	cnt := flag.Bool("count", false, "")
	flag.Parse()
	var err error
	if c.Weak, err = parseWeak(w); err != nil { fmt.Println(err); return }
	if *third { c.Homes = []int{2,1,1} }
	if *h { c.Homes = []int{1,1,1} }
	r := explore(&c)
	fmt.Printf("weak=%s crashes=%d changes=%d moves=%d resumes=%d e2e=%v: %d states, %d steps, depth %d, cut %v, %.1fs: %s\n", c.Weak, c.Crashes, c.Changes, c.Moves, c.Resumes, c.EndToEnd, r.States, r.Steps, r.Depth, r.Cut, r.Took.Seconds(), r.Wrong)
	for _, l := range r.Trace { fmt.Println("   ", l) }
	if *cnt { for k, n := range r.Count { fmt.Println(n, k) } }
}
