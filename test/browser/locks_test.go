package browser

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/nylen/lockd/pkg/server"
)

// What another client takes is seen, and that it is released.
func TestSees(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.text(".empty", "No locks are held")
	p.text(".empty pre", "g test")
	c := s.client("deployer")
	other := s.client("")
	for i := range 3 {
		name := fmt.Sprintf("deploy/%d", i)
		c.ask("g "+name, "1 ")
		took := p.text("main tbody", name)
		t.Logf("a lock was seen %v after it had been taken", took.Round(1e6))
	}
	p.text("main tbody", "deployer")
	p.text("main tbody", c.address())
	p.text(".summary", "3 exclusive locks")

	other.send("gw 60000 deploy/1")
	c.waits("deploy/1", 1)
	p.wait(`document.querySelector("main tbody tr").textContent.startsWith("deploy/1") && document.querySelector("main tbody tr td.some").textContent === "1"`)
	c.ask("r deploy/1", "1 ")
	if got, err := other.reply(); err != nil || !strings.HasPrefix(got, "1 ") {
		t.Fatal(got, err)
	}
	// Who has it now, the row says that was there before.
	p.wait(`[...document.querySelectorAll("main tbody tr")].some((tr) => tr.textContent.startsWith("deploy/1") && tr.textContent.includes(%s))`, other.address())
	c.ask("r deploy/0", "1 ")
	took := p.noText("main tbody", "deploy/0")
	t.Logf("a release was seen after %v", took.Round(1e6))
	if got := p.rows(); len(got) != 2 {
		t.Errorf("there are %q", got)
	}

	p.view("#/")
	p.wait(`[...document.querySelectorAll(".chart svg")].find((svg) => /^Exclusive locks: 2;/.test(svg.getAttribute("aria-label")))`)
	p.wait(`document.querySelectorAll(".bound [role=meter]").length >= 4`)
	p.text(".empty", "Nobody waits for a lock")
}

// Names are searched by how they begin, holders by name and address, and a link to a
// search shows it.
func TestSearch(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	web, cron := s.client("web-1"), s.client("cron-1")
	for i := range 3 {
		web.ask(fmt.Sprintf("g deploy/%d", i), "1 ")
		cron.ask(fmt.Sprintf("g cron/%d", i), "1 ")
	}
	web.ask("sg deploy/shared", "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.wait(`document.querySelectorAll("main tbody tr").length === 7`)
	p.press('/') // goes to the first field
	p.wait(`document.activeElement.matches("[data-search]")`)
	p.keys("deploy/")
	p.wait(`document.querySelectorAll("main tbody tr").length === 4`)
	for _, name := range p.rows() {
		if !strings.HasPrefix(name, "deploy/") {
			t.Errorf("%q was not searched for", name)
		}
	}
	p.keys(kb.Escape)
	p.wait(`document.querySelectorAll("main tbody tr").length === 7 && !location.hash.includes("prefix")`)
	for _, holder := range []string{"cron-1", cron.address()} {
		p.fill("main form label:nth-child(2) input", holder)
		p.wait(`document.querySelectorAll("main tbody tr").length === 3 && document.querySelector("main tbody").textContent.includes("cron/2")`)
		p.fill("main form label:nth-child(2) input", "")
		p.wait(`document.querySelectorAll("main tbody tr").length === 7`)
	}
	p.fill("main form label:nth-child(2) input", "nobody")
	p.text(".empty", "No lock that is held or waited for matches")

	link := open(t, desk, s.url("#/locks?prefix=cron%2F&holder=cron"))
	link.live()
	link.wait(`document.querySelectorAll("main tbody tr").length === 3`)
	if got := eval[string](link, `document.querySelector("[data-search]").value`); got != "cron/" {
		t.Errorf("the field says %q", got)
	}
}

// Each order has what it is about in front, also where there are more than one page
// has, and says so to those who hear it.
func TestSorts(t *testing.T) {
	t.Parallel()
	for _, many := range []int{3, 300} {
		t.Run(fmt.Sprint(many), func(t *testing.T) {
			t.Parallel()
			s := start(t, server.Options{})
			first := s.client("first")
			first.ask("g oldest", "1 ")
			first.aged("oldest")
			queue := s.client("queue")
			queue.ask("g queued", "1 ")
			for i := range 3 {
				waiter := s.client("")
				waiter.send("gw 600000 queued")
				queue.waits("queued", i+1)
			}
			for i := range many {
				first.ask(fmt.Sprintf("g lock/%03d", i), "1 ")
			}
			p := open(t, desk, s.url("#/locks?sort=oldest"))
			p.live()
			p.wait(`document.querySelector("main tbody tr")?.textContent.startsWith("oldest")`)
			p.wait(`document.querySelector("th[aria-sort]").textContent === "Held for"`)
			p.click("th:nth-child(6) button")
			p.wait(`document.querySelector("main tbody tr")?.textContent.startsWith("queued")`)
			p.wait(`document.querySelector("th[aria-sort=descending]").textContent === "Queue"`)
			p.click("th:nth-child(1) button")
			p.wait(`document.querySelector("th[aria-sort=ascending]")?.textContent === "Name" && document.querySelectorAll("main tbody tr").length >= %s`, min(many+2, 100))
			if many < 100 {
				if got := p.rows(); !slices.IsSorted(got) {
					t.Errorf("by name: %q", got)
				}
				return
			}
			// More than a page: all can be had, each once.
			all := make(map[string]bool)
			for page := 1; ; page++ {
				p.text(".pager", fmt.Sprintf("Page %d", page))
				p.wait(`document.querySelectorAll("main tbody tr").length <= 100`)
				for _, name := range p.rows() {
					all[name] = true
				}
				if eval[bool](p, `document.querySelector(".pager button:last-child").disabled`) {
					break
				}
				before := p.rows()[0]
				p.button("Next ›")
				p.wait(`document.querySelector("main tbody tr td.main")?.textContent !== %s`, before)
			}
			if len(all) != many+2 {
				t.Errorf("the pages have %d locks, and there are %d", len(all), many+2)
			}
		})
	}
}

// A lock's view has holders, the queue in order, and how it was lost.
func TestLock(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	const name = "deploy/web app"
	lost := s.client("deployer-0")
	lost.ask("g "+name, "1 ")
	look := s.client("")
	next := s.client("deployer-1")
	next.send("gw 600000 " + name)
	look.waits(name, 1)
	lost.Close()
	if got, err := next.reply(); err != nil || !strings.HasPrefix(got, "1 ") {
		t.Fatal(got, err)
	}
	var names []string
	for i := range 4 {
		names = append(names, fmt.Sprintf("deployer-%d", i+2))
		c := s.client(names[i])
		c.send("gw 600000 " + name)
		look.waits(name, i+1)
	}
	reader := s.client("reader")
	reader.ask("sg "+name, "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.click("main tbody a.lock")
	p.text("h1", name)
	p.text(".facts", "deployer-1")
	p.text(".facts", next.address())
	p.wait(`[...document.querySelectorAll("section:has(#exclusive) tbody td.main")].map((td) => td.textContent.split(" ")[0]).join() === %s`, strings.Join(names, ","))
	p.text("section:has(#shared)", "reader")
	p.text("section:has(#losses) tbody", "deployer-0")
	p.text("section:has(#losses) tbody", "disconnected")
	p.text("section:has(#losses) tbody", "deployer-1") // who waited
	// The one in front goes, and is in the queue no more.
	next.ask("r "+name, "1 ")
	p.text(".facts", "deployer-2")
	p.wait(`document.querySelector("section:has(#exclusive) tbody td.main").textContent.startsWith("deployer-3")`)
	// All are links: to the holder, and what that one holds.
	p.click(".facts a")
	p.text("h1", "Client ")
	p.text("section:has(#holds) tbody", name)
	p.view("#/lock/never%20heard%20of")
	p.text(".facts", "free")
	p.text(".empty", "It has not been lost")
}

// The ledger has what was lost, and is searched by name and reason.
func TestLosses(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	p := open(t, desk, s.url("#/losses"))
	p.live()
	p.text(".empty", "Nothing has been lost since the server was started")
	for _, name := range []string{"one", "two"} {
		c := s.client("holder of " + name)
		c.ask("g "+name, "1 ")
		c.Close()
		p.text("main tbody", "holder of "+name)
	}
	holder, waiter := s.client("holder"), s.client("impatient")
	holder.ask("g three", "1 ")
	waiter.ask("gw 10 three", "0 ")
	p.text("main tbody", "impatient")
	if got := p.rows(); len(got) != 3 || got[0] != "three" {
		t.Errorf("the ledger has %q", got)
	}
	p.fill("[data-search]", "one")
	p.wait(`document.querySelectorAll("main tbody tr").length === 1`)
	p.view("#/")
	p.text("section:has(#lately) tbody", "two")
}
