package browser

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
	"github.com/nylen/lockd/pkg/server"
)

// Who kicks has read what is lost by it, and for whom that gets free; nothing happens
// until then, or when they think better of it.
func TestKick(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	victim, waiter := s.client("importer-7"), s.client("importer-8")
	victim.ask("g import/customers", "1 ")
	for i := range 7 {
		victim.ask(fmt.Sprintf("g import/%d", i), "1 ")
	}
	waiter.send("gw 600000 import/customers")
	s.client("").waits("import/customers", 1)
	p := open(t, desk, s.url("#/clients"))
	p.live()
	p.wait(`[...document.querySelectorAll("main tbody tr")].some((tr) => tr.textContent.includes("importer-7"))`)
	eval[any](p, `[...document.querySelectorAll("main tbody tr")].find((tr) => tr.textContent.includes("importer-7")).querySelector("a").click(), 0`)
	p.text("h1", victim.address())
	p.text("section:has(#holds) tbody", "import/customers")

	ask := func() {
		t.Helper()
		p.button("Kick…")
		p.text("dialog h2", victim.address())
		p.text("dialog", "importer-7")
		p.text("dialog", "It loses 8 locks")
		p.text("dialog li", "import/customers")
		p.text("dialog li", "importer-8")
		p.text("dialog", "and 3 others")
	}
	ask()
	// What is behind takes no focus meanwhile.
	for range 5 {
		p.keys(kb.Tab)
	}
	p.wait(`document.activeElement === document.body || document.querySelector("dialog").contains(document.activeElement)`)
	p.button("Cancel")
	p.wait(`!document.querySelector("dialog")`)
	victim.ask("i import/customers", "1 ")
	ask()
	p.press([]rune(kb.Escape)[0])
	p.wait(`!document.querySelector("dialog")`)
	victim.ask("i import/customers", "1 ")

	ask()
	p.button("Kick")
	p.wait(`!document.querySelector("dialog")`)
	p.text("#said", victim.address()+" was kicked")
	if _, err := victim.reply(); err == nil {
		t.Error("the victim is there")
	}
	if got, err := waiter.reply(); err != nil || !strings.HasPrefix(got, "1 ") {
		t.Errorf("who waited has %q, %v", got, err)
	}
	p.text("main", "This client is gone")
	p.view("#/losses")
	p.wait(`document.querySelectorAll("main tbody tr").length === 8`)
	p.text("main tbody", "kicked")
}

// One that has gone before it was kicked is gone, and whoever has no need to is told.
func TestKickGone(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	victim := s.client("shortlived")
	victim.ask("g x", "1 ")
	time.Sleep(time.Second)
	p := open(t, desk, s.url("#/client/"+strings.ReplaceAll(victim.address(), ":", "%3A")))
	p.live()
	p.button("Kick…")
	p.text("dialog", "It loses 1 lock")
	victim.Conn.(*net.TCPConn).SetLinger(0) // or its port would be in use for a while
	victim.Close()
	p.text("main", "This client is gone")
	// Nor is another one ended that gets its address meanwhile.
	other := s.clientFrom(victim.LocalAddr(), "newcomer")
	other.ask("g x", "1 ")
	time.Sleep(time.Second) // more than the slack that clocks have
	p.button("Kick")
	p.text("dialog [role=alert]", "It is gone already")
	p.button("Cancel")
	other.ask("i x", "1 ")
}
