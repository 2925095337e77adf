package browser

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// Names that would do something, if they were more than text.
var hostile = map[string]string{ // and how they are seen
	`<script>alert(1)</script>`:           `<script>alert(1)</script>`,
	`<img src=x onerror=alert(1)>`:        `<img src=x onerror=alert(1)>`,
	`"'><svg onload=alert(1)>`:            `"'><svg onload=alert(1)>`,
	"invoice\u202Efdp.exe":                `invoice\u202Efdp.exe`,
	"\u2066a\u2069\u200Bb\uFEFF":          `\u2066a\u2069\u200Bb\uFEFF`,
	"bell\abeep\x1b[31m\x00":              `bell\x07beep\x1B[31m\x00`,
	"no\xff\xfe utf-8 \xc3(":              `no\xFF\xFE utf-8 \xC3(`,
	"..":                                  `..`,
	".":                                   `.`,
	"../../metrics":                       `../../metrics`,
	"a//b":                                `a//b`,
	"%2F%2e%2e":                           `%2F%2e%2e`,
	"a?b#c&d=e+f":                         `a?b#c&d=e+f`,
	"__proto__":                           `__proto__`,
	"constructor":                         `constructor`,
	"javascript:alert(1)":                 `javascript:alert(1)`,
	"מנעול":                               `מנעול`,
	"zalgo" + strings.Repeat("\u0301", 9): "zalgo\u0301\u0301\u0301" + strings.Repeat(`\u0301`, 6),
	"\u00A0":                              `\u00A0`,
	"":                                    `(empty name)`,
	"\ufffd":                              "\ufffd", // what others are shown as, elsewhere
	"long/" + strings.Repeat("x", 3900) + "/end": "long/" + strings.Repeat("x", 22) + "…3869…" + strings.Repeat("x", 9) + "/end",
}

// Whatever bytes a name has, it is text: seen as what it is, found, followed to its
// own view, and taken for no other. So are clients' names.
func TestHostileNames(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	c := s.client("")
	c.ask(`iam <b onmouseover=alert(1)>`+"\u202E\xff", "1 ")
	for name := range hostile {
		c.ask("g "+name, "1 ")
	}
	p := open(t, desk, s.url("#/locks"))
	p.live()
	p.wait(`document.querySelectorAll("main tbody tr").length === %s`, len(hostile))
	p.text("main tbody", `<b onmouseover=alert(1)>\u202E\xFF`)
	seen := make(map[string]bool)
	for _, row := range p.rows() {
		seen[row] = true
	}
	for name, want := range hostile {
		if !seen[want] {
			t.Errorf("%q is not there as %q", name, want)
		}
	}
	if t.Failed() {
		t.Logf("there are %q", p.rows())
	}
	for name, want := range hostile {
		id := ""
		for _, b := range []byte(name) {
			id += "%" + strings.ToUpper(hex.EncodeToString([]byte{b}))
		}
		p.view("#/locks")
		p.wait(`document.querySelectorAll("main tbody tr").length === %s`, len(hostile))
		eval[any](p, `[...document.querySelectorAll("main tbody tr")].find((tr) => tr.querySelector("td.main").textContent === %s).querySelector("a").click(), 0`, want)
		p.text(".facts", "held")
		if len(name) < 1000 && name != "" {
			p.wait(`document.querySelector("h1").textContent === %s`, "Lock "+want)
		}
		// The address is the same for the same bytes, however it is written.
		p.view("#/lock/" + id)
		p.text(".facts", "held")
		p.text(".facts", c.address())
	}
	// All of a long one can be had.
	p.view("#/lock/" + "long%2F" + strings.Repeat("x", 3900) + "%2Fend")
	p.wait(`document.querySelector("h1").textContent.length > 3900`)
	p.wait(`document.documentElement.scrollWidth <= innerWidth`)
	// Nothing of it has become an element.
	if got := eval[int](p, `document.querySelectorAll("main script, main img, main b, main svg:not(.chart svg)").length`); got != 0 {
		t.Errorf("%d elements are made of names", got)
	}
	// What is searched for may be hostile as well.
	p.view("#/locks?prefix=%3Cscript")
	p.wait(`document.querySelectorAll("main tbody tr").length === 1`)
	p.view("#/locks?prefix=no%FF")
	p.wait(`document.querySelectorAll("main tbody tr").length === 1`)
	for _, broken := range []string{"#/lock/%", "#/lock/%zz", "#/client/%E0%A4%A", "#/nothing", "#/__proto__", "#/locks?prefix=%&sort=constructor", "#/clients?q=%E0%A4%A"} {
		p.view(broken)
		p.wait(`document.querySelector("main h1")?.textContent.length > 0`)
	}
	p.view("#/clients")
	p.text("main tbody", `<b onmouseover=alert(1)>\u202E\xFF`)
	c.Close()
	p.view("#/losses")
	p.wait(`document.querySelectorAll("main tbody tr").length === %s`, len(hostile))
	for _, want := range []string{`<script>alert(1)</script>`, `no\xFF\xFE utf-8 \xC3(`, `invoice\u202Efdp.exe`} {
		p.text("main tbody td.main", want)
	}
}

// The test's eyes are open: what the policy forbids is complained of.
func TestComplaints(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for what, script := range map[string]string{
		"policy: require-trusted-types-for":                            `const s = document.createElement("script"); s.append("window.ran = true"); document.body.append(s)`,
		"exception: Uncaught TypeError: Failed to set the 'innerHTML'": `setTimeout(() => document.body.innerHTML = "<img src=x onerror='window.ran = true'>")`,
		"policy: style-src-attr inline":                                `document.body.setAttribute("style", "color: red")`,
		"policy: img-src":                                              `document.body.append(Object.assign(document.createElement("img"), { src: "http://127.0.0.1:1/x" }))`,
		"policy: connect-src":                                          `fetch("http://127.0.0.1:1/").catch(() => {})`,
		"exception: Uncaught Error: mistake":                           `setTimeout(() => { throw new Error("mistake"); })`,
	} {
		t.Run(strings.Fields(what)[1], func(t *testing.T) {
			p := open(t, desk, s.url(""))
			p.live()
			eval[any](p, "(() => { "+script+"; return 0; })()")
			p.expected = true
			found := false
			for end := time.Now().Add(patience); !found && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				for _, c := range p.forgive() {
					found = found || strings.Contains(c, what)
				}
			}
			if !found {
				t.Errorf("nobody complains of: %s", script)
			}
			if eval[bool](p, "window.ran === true") {
				t.Error("a script that was put into the page ran")
			}
		})
	}
}
