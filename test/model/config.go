package main

import "time"

// A Config is what one run explores.
type Config struct {
	Name string
	Why  string // what it is for, in a line
	Want string // what has to be found: "" nothing, else how the violation begins

	Nodes, Clients, Parts int
	Limit                 int   // holders of a lock
	At                    []int // partition of each client; nil: all 0
	Homes                 []int // of the clients, to begin with
	Owners                []int // of the partitions, to begin with

	// All in ticks of real time, with the slowest clock that is allowed for what has to end
	// early, and the fastest for what has to wait.
	W      uint8 // a node's right to serve
	BW     uint8 // a balancer's patience
	G      uint8 // an owner's: it frees, and recovers, after that
	Link   uint8 // a home's lease from the sending of a request that was answered
	Client uint8 // a client's deadline from the sending of what was confirmed

	EndToEnd  bool // a home answers a ping after its owner has; else by its lease
	Tokens    bool // tokens are numbers below ceilings; else just an order
	MaxToken  uint8
	Reserve   uint8 // tokens that a heartbeat reserves
	SlowBeats bool  // heartbeats are on their way for some time
	Idle      bool  // nodes that own nothing have to send heartbeats, too

	Crashes, Changes, Moves, Resumes uint8 // at most; unlimited

	Weak weakness      // rules that are weakened
	Max  int           // states; 0: as many as there are
	For  time.Duration // how long; 0: to the end
	Long bool          // not in the quick set
}

func (c *Config) at(k int) int {
	if c.At == nil {
		return 0
	}
	return c.At[k]
}
