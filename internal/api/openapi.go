package api

import _ "embed"

//go:embed openapi.json
var document []byte

// described is the reply with the document. It does not change.
var described = taggedReply(document)

func (a *API) openAPI(c *call) { c.send(described) }
