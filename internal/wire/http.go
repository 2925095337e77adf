package wire

import "bytes"

// HTTPRefusal answers somebody who speaks HTTP to the line port, in words
// that a browser or curl shows to the person behind it.
const HTTPRefusal = "HTTP/1.1 400 Bad Request\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Connection: close\r\n\r\n" +
	"This is lockd's line port, which does not speak HTTP. " +
	"Metrics and health are on the admin port, browsers connect to the WebSocket port.\n"

// IsHTTP tells whether a line with an unknown verb is the request line of an
// HTTP request, `METHOD TARGET HTTP/VERSION`. A page in somebody's browser can
// post to any port it likes, and the lines of what it posts would run as
// requests; so the first line has to end the connection.
func IsHTTP(name []byte) bool {
	version := name[bytes.LastIndexByte(name, ' ')+1:]
	return len(version) < len(name) && bytes.HasPrefix(version, []byte("HTTP/"))
}

// IsHTTPStart tells the same of a line that was too long to be kept whole,
// from its beginning: `METHOD /...` or `METHOD http...`, METHOD being upper
// case, which no verb is.
func IsHTTPStart(line []byte) bool {
	method, target, ok := bytes.Cut(line, []byte(" "))
	if !ok || len(method) == 0 {
		return false
	}
	for _, c := range method {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return bytes.HasPrefix(target, []byte("/")) || bytes.HasPrefix(target, []byte("http"))
}
