package api

// A loss is something that a client had or wanted and has not got.
type loss struct{}

func (a *API) lossesOf(name string, n int) []loss { return []loss{} }

func (a *API) losses(c *call) {
	c.answer(struct {
		Losses []loss `json:"losses"`
		Next   string `json:"next"`
	}{[]loss{}, ""})
}
