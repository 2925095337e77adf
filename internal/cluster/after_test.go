package cluster

import "testing"

// A cluster that follows others begins above their tokens, and nothing that they had is
// served before it was recovered.
func TestMapAfter(t *testing.T) {
	m := NewMapAfter(12345)
	read, err := DecodeMap(m.Encode())
	if err != nil || read.Base != 12345 || read.Version != 1 || read.Partitions[7] != (Partition{Epoch: 1}) {
		t.Fatalf("%+v, %v", read, err)
	}
	if NewMapAfter(1<<60).Base != MaxBase {
		t.Error("there is no room above it")
	}
	v := &View{Map: read}
	if n := v.TokensBelow(); n != 12345 {
		t.Errorf("without nodes: %d", n)
	}
	v.Nodes = []Node{{ID: "a", Ceil: 5}, {ID: "b", Ceil: 99999}}
	if n := v.TokensBelow(); n != 99999 {
		t.Errorf("with nodes: %d", n)
	}
	c := farewell(v, v.Nodes[1])
	v = &View{Map: c.Next, Nodes: v.Nodes[:1]}
	if n := v.TokensBelow(); n != 99999 {
		t.Errorf("when the one with the highest has left: %d", n)
	}
	c = farewell(v, v.Nodes[0])
	v = &View{Map: c.Next}
	if n := v.TokensBelow(); n != 99999 {
		t.Errorf("when all have left: %d", n)
	}
	next := c.Next.Next()
	reassign(next, next.Owned(""), []Node{{ID: "c"}})
	for i, p := range next.Partitions {
		if p != (Partition{Owner: "c", Epoch: 2}) {
			t.Fatalf("partition %d is %+v", i, p)
		}
	}
}
