package shard

// get and getShared are requests whose fencing token does not matter.

func get(t *Set, o *Owner, name []byte) Outcome {
	_, out := t.Get(o, name)
	return out
}

func getShared(t *Set, o *Owner, name []byte) (int, Outcome) {
	grant, out := t.GetShared(o, name)
	return grant.Count, out
}
