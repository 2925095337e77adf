package admin

import (
	"fmt"
	"net/http"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// profiles are what `go tool pprof` and `go tool trace` read: where the time and the
// memory of a running server go. They are not net/http/pprof's, whose import alone has
// any program that embeds the server show them at its own address, to everybody.
//
// Those of a time take at most mostSeconds; one is made at a time.
const (
	profilesIndex = `lockd

/debug/pprof/profile?seconds=30   where the processors' time goes
/debug/pprof/trace?seconds=5      what runs when: for go tool trace
/debug/pprof/heap                 what is in memory
/debug/pprof/allocs               what was allocated since the start
/debug/pprof/goroutine            what there is of goroutines; ?debug=1 as text

    go tool pprof http://127.0.0.1:9997/debug/pprof/profile
`
	mostSeconds    = 120
	profileSeconds = 30 // if nothing is said
	traceSeconds   = 1
)

// handleProfiles adds them to a mux, for those whom a guard lets through.
func handleProfiles(mux *http.ServeMux, g Guard) {
	get := func(path string, f http.HandlerFunc) { mux.Handle("GET /debug/pprof/"+path, g.Admin(f)) }
	get("{$}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, profilesIndex) })
	get("profile", func(w http.ResponseWriter, r *http.Request) {
		during(w, r, profileSeconds, func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile)
	})
	get("trace", func(w http.ResponseWriter, r *http.Request) {
		during(w, r, traceSeconds, func() error { return trace.Start(w) }, trace.Stop)
	})
	for _, name := range []string{"heap", "allocs", "goroutine"} {
		get(name, func(w http.ResponseWriter, r *http.Request) { snapshot(w, r, name) })
	}
	get("{name}", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "lockd: there is no profile "+strconv.Quote(r.PathValue("name"))+"; /debug/pprof/ lists those that there are", http.StatusNotFound)
	})
}

// during has a profile made for as many seconds as are asked for, or until who asked
// has gone.
func during(w http.ResponseWriter, r *http.Request, unset int, start func() error, stop func()) {
	seconds := unset
	if text := r.FormValue("seconds"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > mostSeconds {
			http.Error(w, fmt.Sprintf("lockd: seconds must be a whole number from 1 to %d, not %q", mostSeconds, text), http.StatusBadRequest)
			return
		}
		seconds = n
	}
	// The server's bound on the time of an answer is for those made at once.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(seconds)*time.Second + writeTimeout))
	binary(w)
	if err := start(); err != nil {
		w.Header().Del("Content-Disposition")
		http.Error(w, "lockd: one profile of a kind is made at a time: "+err.Error(), http.StatusConflict)
		return
	}
	defer stop()
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-r.Context().Done():
	}
}

// snapshot answers with what there is now.
func snapshot(w http.ResponseWriter, r *http.Request, name string) {
	debug := 0
	if text := r.FormValue("debug"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 1 {
			http.Error(w, fmt.Sprintf("lockd: debug must be 0, or 1 for text, not %q: what more tells stops the whole server while it is written", text), http.StatusBadRequest)
			return
		}
		debug = n
	}
	if name == "heap" && r.FormValue("gc") == "1" {
		runtime.GC()
	}
	if debug == 0 {
		binary(w)
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	pprof.Lookup(name).WriteTo(w, debug)
}

// binary says that what comes is nothing to look at in a browser.
func binary(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Disposition", `attachment; filename="lockd.pprof"`)
}
