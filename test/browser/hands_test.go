package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/nylen/lockd/pkg/server"
)

// All can be reached and done without a mouse; and Back is where one was.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("holder")
	for i := range 60 {
		c.ask(fmt.Sprintf("g lock/%02d", i), "1 ")
	}
	p := open(t, desk, s.url("#/locks?sort=name"))
	p.live()
	p.wait(`document.querySelectorAll("main tbody tr").length === 60`)
	// The first thing that is reached goes over what stands on every view.
	p.press([]rune(kb.Tab)[0])
	p.wait(`document.activeElement.id === "skip" && getComputedStyle(document.activeElement).top === "8px"`)
	p.keys(kb.Enter)
	p.wait(`document.activeElement.matches("h1")`)
	for range 50 {
		if eval[bool](p, `document.activeElement.matches("tbody a.lock")`) {
			break
		}
		p.press([]rune(kb.Tab)[0])
	}
	p.wait(`document.activeElement.matches("tbody a.lock") && getComputedStyle(document.activeElement).outlineStyle !== "none"`)
	for range 30 {
		p.press([]rune(kb.ArrowDown)[0])
	}
	p.wait(`document.activeElement.textContent === "lock/30"`)
	p.press([]rune(kb.ArrowUp)[0])
	// Rows come and go and are written over: what has the focus keeps it, where it is.
	at := eval[float64](p, "document.activeElement.getBoundingClientRect().top")
	c.ask("r lock/55", "1 ")
	other := s.client("")
	other.send("gw 600000 lock/58")
	p.wait(`!document.querySelector("main tbody").textContent.includes("lock/55") && document.querySelector("td.some")`)
	if got := eval[string](p, "document.activeElement.textContent"); got != "lock/29" {
		t.Errorf("%q has the focus", got)
	}
	if got := eval[float64](p, "document.activeElement.getBoundingClientRect().top"); got != at {
		t.Errorf("the row has moved from %v to %v", at, got)
	}
	p.keys(kb.Enter)
	p.text("h1", "lock/29")
	p.wait(`document.activeElement.matches("h1")`) // which is read out
	p.wait(`document.title.startsWith("Lock lock/29")`)
	eval[any](p, "history.back(), 0")
	p.wait(`document.activeElement.textContent === "lock/29"`)
	p.wait(`Math.abs(document.activeElement.getBoundingClientRect().top - %s) < 2`, at)
	// The row that one is at goes: it stays until one leaves, and nothing takes its place.
	c.ask("r lock/29", "1 ")
	p.wait(`document.activeElement.closest("tr").classList.contains("gone")`)
	p.press([]rune(kb.ArrowDown)[0])
	p.wait(`document.activeElement.textContent === "lock/30"`)
	p.noText("main tbody", "lock/29")
	// Sorting by the keyboard keeps the focus, too.
	eval[any](p, `document.querySelector("th:nth-child(6) button").focus(), 0`)
	p.keys(kb.Enter)
	p.wait(`document.querySelector("main tbody tr").textContent.startsWith("lock/58") && document.activeElement.closest("th")?.ariaSort === "descending"`)
}

// While it is paused nothing changes; afterwards it shows what is.
func TestPause(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("")
	c.ask("g one", "1 ")
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.text("main tbody", "one")
	p.button("Pause")
	p.text("#state", "Paused")
	before := eval[string](p, `document.querySelector("main").innerText`)
	at := eval[float64](p, "performance.now()")
	c.ask("g two", "1 ")
	p.wait("performance.now() > %s + 2500", at) // two times as long as it takes otherwise
	if after := eval[string](p, `document.querySelector("main").innerText`); after != before {
		t.Errorf("it was\n%s\nand is\n%s", before, after)
	}
	p.button("Resume")
	p.text("main tbody", "two")
}

// views are all that there are, of a server that has something of everything.
func views(s *running) []string {
	holder := s.client("deployer-1")
	holder.ask("g deploy/web", "1 ")
	holder.ask("sg deploy/shared", "1 ")
	holder.ask("rl 3 60000 3 mail", "3 ")
	waiter := s.client("deployer-2")
	waiter.send("gw 600000 deploy/web")
	s.client("").waits("deploy/web", 1)
	gone := s.client("cron")
	gone.ask("g cron/nightly-report "+strings.Repeat("x", 300), "1 ")
	gone.Close()
	return []string{"#/", "#/locks", "#/locks?prefix=nothing", "#/lock/deploy%2Fweb", "#/lock/deploy%2Fshared", "#/clients",
		"#/client/" + strings.ReplaceAll(holder.address(), ":", "%3A"), "#/losses", "#/rates"}
}

// On a phone nothing is wider than the screen, and what can be touched is large enough.
func TestPhone(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	all := views(s)
	p := open(t, view{width: 360, height: 740, scale: 2, phone: true}, s.url(""))
	p.live()
	for _, hash := range all {
		p.view(hash)
		p.settled()
		if got := eval[int](p, "document.documentElement.scrollWidth"); got > 360 {
			t.Errorf("%s is %d wide", hash, got)
		}
		if got := eval[[]string](p, `[...document.querySelectorAll("button, input, select, #tabs a")].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 32).map((e) => e.outerHTML)`); len(got) > 0 {
			t.Errorf("%s: too small to touch: %q", hash, got)
		}
	}
}

// settled waits until a view shows what there is.
func (p *tab) settled() {
	p.Helper()
	p.wait(`[...document.querySelectorAll("main .table")].filter((e) => e.checkVisibility()).every((e) => e.querySelector("tbody tr, .empty:not([hidden])")) && !document.querySelector("main .note:not([hidden])")?.textContent.startsWith("Searching")`)
}

// What a screen reader is told: each view has one main heading, landmarks and named
// tables; the state is told politely, numbers that change each second are not.
func TestAccessible(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	all := views(s)
	p := open(t, desk, s.url(""))
	p.live()
	for _, hash := range all {
		p.view(hash)
		p.settled()
		tree := p.tree()
		for _, want := range []string{"banner", "navigation Views", "main", "status"} {
			if !slices.ContainsFunc(tree, func(line string) bool { return strings.HasPrefix(line, want) }) {
				t.Errorf("%s: no %s among\n%s", hash, want, strings.Join(tree, "\n"))
			}
		}
		for _, line := range tree {
			switch strings.Fields(line)[0] {
			case "button", "link", "searchbox", "textbox", "combobox", "table", "img", "image", "meter", "columnheader":
				if line == strings.Fields(line)[0] {
					t.Errorf("%s: a %s without a name", hash, line)
				}
			}
		}
		for what, query := range map[string]string{
			"h1":                       `document.querySelectorAll("main h1").length === 1`,
			"one view is the current":  `document.querySelectorAll("#tabs [aria-current=page]").length === 1`,
			"captions":                 `[...document.querySelectorAll("table")].every((t) => t.caption.textContent)`,
			"scopes":                   `[...document.querySelectorAll("th")].every((t) => t.scope === "col")`,
			"ids are one's own":        `new Set([...document.querySelectorAll("[id]")].map((e) => e.id)).size === document.querySelectorAll("[id]").length`,
			"numbers are not read out": `![...document.querySelectorAll("[aria-live]:not([aria-live=off]), [role=status], [role=alert]")].some((e) => e.querySelector("table, .value, .figures"))`,
		} {
			if !eval[bool](p, query) {
				t.Errorf("%s: %s", hash, what)
			}
		}
	}
}

// tree is what a screen reader sees: roles and names.
func (p *tab) tree() []string {
	p.Helper()
	var lines []string
	p.run(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		nodes, err := cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			return err
		}
		for _, n := range nodes.Nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			var role, name string
			json.Unmarshal(n.Role.Value, &role)
			if n.Name != nil {
				json.Unmarshal(n.Name.Value, &name)
			}
			if role != "" && role != "InlineTextBox" && role != "none" {
				lines = append(lines, strings.TrimSpace(role+" "+name))
			}
		}
		return nil
	}))
	return lines
}

// axe-core, where one has it: https://www.npmjs.com/package/axe-core, in LOCKD_AXE.
func TestAxe(t *testing.T) {
	t.Parallel()
	path := os.Getenv("LOCKD_AXE")
	if path == "" {
		t.Skip("LOCKD_AXE names no axe.min.js, of the npm package axe-core")
	}
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, server.Options{})
	all := views(s)
	for _, dark := range []bool{false, true} {
		v := desk
		v.dark = dark
		p := open(t, v, s.url(""))
		p.live()
		eval[any](p, string(script)+"; 0")
		for _, hash := range all {
			p.view(hash)
			p.settled()
			eval[any](p, `(window.found = null, axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }).then((r) => window.found = r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 200) + " " + n.failureSummary))), 0)`)
			p.wait("window.found")
			for _, violation := range eval[[]string](p, "window.found") {
				t.Errorf("%s, dark %v: %s", hash, dark, violation)
			}
		}
	}
}
