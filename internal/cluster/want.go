package cluster

import (
	"encoding/json"
	"fmt"
	"slices"
)

// A Want is what people have asked for: the value of P/want, which need not be there.
type Want struct {
	// Drains names nodes that shall own nothing.
	Drains []string `json:"drains,omitempty"`
	// Still: partitions are not evened out. They are still moved from nodes that are
	// drained, and given away for those that are gone.
	Still bool `json:"still,omitempty"`

	raw string
}

// Drained tells whether a node of that name shall own nothing.
func (w Want) Drained(name string) bool { return slices.Contains(w.Drains, name) }

// Drain returns it with a node drained, or not any more.
func (w Want) Drain(name string, yes bool) Want {
	drains := slices.DeleteFunc(slices.Clone(w.Drains), func(n string) bool { return n == name })
	if yes {
		drains = append(drains, name)
		slices.Sort(drains)
	}
	return Want{Drains: drains, Still: w.Still}
}

// Encode is the value of P/want, as it was read if it was.
func (w Want) Encode() string {
	if w.raw == "" {
		text, _ := json.Marshal(w)
		return string(text)
	}
	return w.raw
}

// Read tells whether it was read, or is what holds where there is none.
func (w Want) Read() bool { return w.raw != "" }

// DecodeWant reads one.
func DecodeWant(text string) (Want, error) {
	var w Want
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return Want{}, fmt.Errorf("what is wanted of the cluster cannot be read: %w", err)
	}
	w.raw = text
	return w, nil
}
