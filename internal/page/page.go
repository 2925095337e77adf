// Package page is the page for those who operate a server, as a browser shows it:
// HTML, style and scripts, as they stand in the folder ui, without a build step and
// with nothing from elsewhere.
//
// It holds nothing of a server's: all that it shows it asks the JSON API for, as
// whoever looks at it. So it can be had without a token. What clients call
// themselves and their locks is text to it, in the scripts by never parsing markup,
// and in the browser by a policy that runs nothing but these scripts.
package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strconv"
)

//go:embed ui
var files embed.FS

// Policy is what a browser may do for the page: run and show what comes from the
// server itself, talk to it, and nothing else. No text may become markup or script,
// whatever the page's scripts do.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are those of the files that there are, which not every system knows.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// file is a file with its headers.
type file struct {
	content []byte
	mime    string
	tag     string
}

// all are the files, by the paths that they are asked for.
var all = load()

func load() map[string]file {
	all := make(map[string]file)
	entries, err := fs.ReadDir(files, "ui")
	if err != nil {
		panic(err) // it is in the program
	}
	for _, entry := range entries {
		content, err := files.ReadFile("ui/" + entry.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(content)
		at := "/ui/" + entry.Name()
		if entry.Name() == "index.html" {
			at = "/"
		}
		all[at] = file{content, types[path.Ext(entry.Name())], `"` + hex.EncodeToString(sum[:12]) + `"`}
	}
	return all
}

// Has tells whether a path is the page, or a part of it.
func Has(path string) bool {
	_, ok := all[path]
	return ok
}

// Handler answers for / with the page, and below /ui/ with what belongs to it.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := all[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		f.serve(w, r)
	})
}

// serve has the browser ask each time whether it has the file as it is, so that an
// upgraded server's page is never made of old and new scripts.
func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", Policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.tag)
	if r.Header.Get("If-None-Match") == f.tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.mime)
	h.Set("Content-Length", strconv.Itoa(len(f.content)))
	w.Write(f.content)
}
