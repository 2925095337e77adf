package api

import _ "embed"

//go:embed openapi.json
var openAPI []byte

func (a *API) openAPI(c *call) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Write(openAPI)
}
