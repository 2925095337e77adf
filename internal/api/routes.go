package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A route is something that can be asked for. Segments of its path in braces stand for
// bytes, percent-encoded where that is needed; one is the rest of the path.
type route struct {
	method string
	path   string // behind Path
	names  bool   // it tells names, of locks or of clients
	serve  func(*API, *call)
}

var routes = []route{
	{"GET", "stats", false, (*API).stats},
	{"GET", "history", false, (*API).history},
	{"GET", "events", false, (*API).events},
	{"GET", "locks", true, (*API).locks},
	{"GET", "locks/{name}", true, (*API).lock},
	{"GET", "clients", true, (*API).clients},
	{"GET", "clients/{address}", true, (*API).client},
	{"POST", "clients/{address}/kick", true, (*API).kick},
	{"GET", "rates", true, (*API).rates},
	{"GET", "losses", true, (*API).losses},
	{"GET", "cluster", false, (*API).cluster},
	{"GET", "openapi.json", false, (*API).openAPI},
}

// find returns the route of a request, and what stands for the segments in braces; or
// the methods that the path takes instead.
//
// It looks at the path as it was sent: in a decoded one, as http.ServeMux would see
// it, a name with a slash in it is two segments, and `..` somewhere else.
func find(method, path string) (_ *route, args []string, allowed string) {
	rest, ok := strings.CutPrefix(path, Path)
	if !ok {
		return nil, nil, ""
	}
	if method == http.MethodHead {
		method = http.MethodGet
	}
	segments := strings.Split(rest, "/")
	var methods []string
	for i := range routes {
		r := &routes[i]
		values, ok := match(strings.Split(r.path, "/"), segments)
		switch {
		case !ok:
		case r.method == method:
			return r, values, ""
		case !slices.Contains(methods, r.method):
			methods = append(methods, r.method)
		}
	}
	return nil, nil, strings.Join(methods, ", ")
}

func match(pattern, segments []string) (args []string, ok bool) {
	if len(pattern) != len(segments) {
		return nil, false
	}
	for i, p := range pattern {
		if strings.HasPrefix(p, "{") {
			value, err := url.PathUnescape(segments[i])
			if err != nil {
				return nil, false
			}
			args = append(args, value)
		} else if p != segments[i] {
			return nil, false
		}
	}
	return args, true
}
