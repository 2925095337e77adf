package browser

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/nylen/lockd/pkg/server"
)

// A server that goes is said to be gone, with what was known of it on the screen, and
// is found when it is back, with what it knows then.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("before")
	c.ask("g old", "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.text("main tbody", "old")
	begin := s.again()
	p.wait(`document.getElementById("state").dataset.state === "lost"`)
	p.text("#state", "Lost at ")
	p.text("#banner", "What is shown is from before")
	p.text("#banner", "Trying again")
	p.text("main tbody", "old")
	begin()
	took := p.wait(`document.getElementById("state").dataset.state === "live"`)
	t.Logf("it was found %v after it had begun", took.Round(1e6))
	p.text("#said", "The server was started anew")
	p.text(".empty", "No locks are held")
	p.noText("#banner", "What is shown")
	s.client("after").ask("g new", "1 ")
	p.text("main tbody", "new")
	// And by the button, as soon as one likes.
	begin = s.again()
	p.wait(`document.getElementById("state").dataset.state === "lost"`)
	begin()
	p.wait(`document.getElementById("retry").hidden || (document.getElementById("retry").click(), false)`)
	p.live()
}

// While the server shuts down the page says so.
func TestDraining(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("")
	c.ask("g x", "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	p.text("#banner", "The server is shutting down")
	p.text("#state", "Shutting down")
	p.text("main tbody", "x")
	c.ask("r x", "1 ")
	p.wait(`document.getElementById("state").dataset.state === "lost"`)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// With dumps disabled there are numbers, and a reason for the rest.
func TestDumpDisabled(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{DisableDump: true})
	s.client("").ask("g secret", "1 ")
	p := open(t, desk, s.url(""))
	p.live()
	p.wait(`[...document.querySelectorAll(".chart svg")].find((svg) => /^Exclusive locks: 1;/.test(svg.getAttribute("aria-label")))`)
	for _, view := range []string{"locks", "clients", "losses", "rates", "lock/secret", "client/127.0.0.1%3A1"} {
		p.view("#/" + view)
		p.text("main", "--disable-dump")
		p.wait(`!document.querySelector("main table")`)
	}
	p.view("#/")
	p.wait(`document.querySelector(".chart")`)
	if text := eval[string](p, "document.documentElement.textContent"); strings.Contains(text, "secret") {
		t.Error("the page tells the name")
	}
}

// From another machine a token is asked for, wrong ones are said to be wrong, and
// each role has what it may do.
func TestToken(t *testing.T) {
	t.Parallel()
	const reader, boss, locker = "reader-token-0123456789", "admin-token-0123456789", "lock-token-0123456789"
	s := start(t, server.Options{AuthOn: []string{"none"}, AuthFile: write(t, fmt.Sprintf(
		"grafana read %s\nboss admin %s\napp lock %s\n", hashed(reader), hashed(boss), hashed(locker)))})
	c := s.client("victim")
	c.ask("g x", "1 ")
	remote := s.behind()
	p := open(t, desk, remote+"#/locks")
	p.text("h1", "Sign in")
	p.wait(`document.activeElement.id === "token"`)
	p.noText("main", "Wrong token")
	p.keys("nonsense" + kb.Enter)
	p.text("[role=alert]", "Wrong token")
	p.wait(`document.activeElement.id === "token" && document.activeElement.value === ""`)
	p.keys(locker + kb.Enter)
	p.text("main", "You may not see this")
	p.text("main", "app may not see this")
	p.button("Sign out")
	p.text("h1", "Sign in")
	p.wait(`document.activeElement.id === "token"`)
	p.keys(reader + kb.Enter)
	p.live()
	p.text("main tbody", "x") // where they wanted to go
	p.text("#you", "grafana, read")
	p.view("#/client/" + strings.ReplaceAll(c.address(), ":", "%3A"))
	p.text("section:has(#holds) tbody", "x")
	p.noText("main button", "Kick…")
	// It is this tab's, and stays when the page is loaded again.
	eval[any](p, "location.reload(), 0")
	p.text("section:has(#holds) tbody", "x")
	if got := eval[string](p, "JSON.stringify([document.cookie, localStorage.length, location.href.includes('token')])"); got != `["",0,false]` {
		t.Errorf("the token is kept elsewhere: %s", got)
	}
	p.button("Sign out")
	p.text("h1", "Sign in")
	p.wait(`document.activeElement.id === "token"`)
	p.keys(boss + kb.Enter)
	p.text("#you", "boss, admin")
	p.button("Kick…")
	p.text("dialog", "It loses 1 lock")
	p.button("Kick")
	p.text("#said", "was kicked")
	p.button("Sign out")
	p.text("h1", "Sign in")
	p.noText("main", "victim")

	// On the server's machine one may look without, and has to say who one is to kick.
	c = s.client("victim")
	c.ask("g y", "1 ")
	local := open(t, desk, s.url("#/client/"+strings.ReplaceAll(c.address(), ":", "%3A")))
	local.live()
	local.text("section:has(#holds) tbody", "y")
	local.noText("main button", "Kick…")
	local.button("Sign in")
	local.wait(`document.activeElement.id === "token"`)
	local.keys(boss + kb.Enter)
	local.button("Kick…")
	local.text("dialog", "It loses 1 lock")
}

// Where as many look as may follow the server's events, one more asks for the numbers.
func TestManyLook(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for range 20 {
		reply, err := http.Get(s.url("api/v1/events"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { reply.Body.Close() })
		if reply.StatusCode == http.StatusServiceUnavailable {
			break
		}
		// Who does not read is no viewer for long.
		go io.Copy(io.Discard, reply.Body)
	}
	p := open(t, desk, s.url("#/"))
	p.text("#state", "Live, every 2 s")
	s.client("").ask("g x", "1 ")
	p.wait(`[...document.querySelectorAll(".chart svg")].find((svg) => /^Exclusive locks: 1;/.test(svg.getAttribute("aria-label")))`)
	p.view("#/locks")
	p.text("main tbody", "x")
}

// A page that nobody sees asks for nothing, and knows what is when it is seen again.
func TestHidden(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("")
	c.ask("g one", "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.text("main tbody", "one")
	hide := func(hidden bool) {
		eval[any](p, `(Object.defineProperty(document, "hidden", { configurable: true, get: () => %s }), document.dispatchEvent(new Event("visibilitychange")), 0)`, hidden)
	}
	hide(true)
	eval[any](p, `(window.asked = 0, window.reallyFetch = fetch, window.fetch = (...a) => (asked++, reallyFetch(...a)), window.from = performance.now(), 0)`)
	c.ask("g two", "1 ")
	p.wait(`performance.now() > from + 4000`) // twice as long as anything waits otherwise
	if n := eval[int](p, "asked"); n != 0 {
		t.Errorf("a hidden page has asked %d times", n)
	}
	hide(false)
	p.text("main tbody", "two")
	p.live()
	if n := eval[int](p, "asked"); n == 0 {
		t.Error("the test sees nothing that is asked")
	}
}
