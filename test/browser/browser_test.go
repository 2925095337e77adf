// Package browser opens the page on the admin address in a real browser, against a
// real server, and does there what a person would.
//
// Nothing is asserted about how long something takes: what is waited for has a
// minute. A test whose page says anything to the console, or does what its policy
// forbids, fails.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// patience bounds a wait for something that is to come.
const patience = time.Minute

// browser is the one that all tests use, each with a profile of its own; nil where
// there is none.
var browser context.Context

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	path := chromium()
	if path == "" {
		fmt.Println("skipping the tests of the page: Chromium is not installed")
		return m.Run(), nil
	}
	profile, err := os.MkdirTemp("", "lockd-browser")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(profile)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(profile), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WSURLReadTimeout(patience))...)
	defer stop()
	ctx, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(ctx); err != nil {
		fmt.Printf("skipping the tests of the page: the browser does not work here: %v\n", err)
		return m.Run(), nil
	}
	browser = ctx
	return m.Run(), nil
}

func chromium() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// A tab is the page as one person has it open.
type tab struct {
	*testing.T
	ctx context.Context

	mu         sync.Mutex
	complaints []string // of the browser: errors, and what the policy forbids
	expected   bool     // they are the test's doing
}

// A view is the size of a window, and what its user prefers.
type view struct {
	width, height int64
	scale         float64
	phone, dark   bool
}

var desk = view{width: 1280, height: 900, scale: 1}

// needBrowser skips a test where there is none.
func needBrowser(t *testing.T) {
	t.Helper()
	if browser == nil {
		t.Skip("no browser")
	}
}

// open opens an address.
func open(t *testing.T, v view, url string) *tab {
	t.Helper()
	needBrowser(t)
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithNewBrowserContext())
	p := &tab{T: t, ctx: ctx}
	t.Cleanup(func() {
		defer cancel()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, c := range p.complaints {
			if !p.expected {
				t.Errorf("the browser complains: %s", c)
			}
		}
		if t.Failed() {
			p.picture()
		}
	})
	if err := chromedp.Listen(ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	scheme := "light"
	if v.dark {
		scheme = "dark"
	}
	p.run(
		call(log.Enable, cdp.Empty{}), call(runtime.Enable, cdp.Empty{}), call(page.Enable, page.EnableParams{}),
		// A tab behind others would show nothing, and take no keys.
		call(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}),
		call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: v.width, Height: v.height, DeviceScaleFactor: v.scale, Mobile: v.phone,
		}),
		call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}),
		call(page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
			Source: `document.addEventListener("securitypolicyviolation", (e) => console.error("policy: " + e.violatedDirective + " " + e.blockedURI));`,
		}),
		chromedp.Navigate(url),
	)
	return p
}

// call is an action that gives the browser a command.
func call[P, R any](command cdp.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, command, params)
		return err
	})
}

// hear notes what the browser complains of. That a reply is no, or does not come, is
// the page's business to tell, and no mistake of the page's.
func (p *tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		p.complaints = append(p.complaints, "exception: "+e.ExceptionDetails.Text+" "+described(e.ExceptionDetails.Exception))
	case *runtime.EventConsoleAPICalled:
		var words []string
		for _, a := range e.Args {
			words = append(words, string(a.Value))
		}
		p.complaints = append(p.complaints, fmt.Sprintf("console: %s", strings.Join(words, " ")))
	case *log.EventEntryAdded:
		if e.Entry.Source != log.EntrySourceNetwork {
			p.complaints = append(p.complaints, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
		}
	case *page.EventJavascriptDialogOpening:
		p.complaints = append(p.complaints, "a dialog: "+e.Message)
		go chromedp.Do(p.ctx, call(page.HandleJavaScriptDialog, page.HandleJavaScriptDialogParams{Accept: true}))
	}
}

// forgive returns what the browser has complained of, and forgets it.
func (p *tab) forgive() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.complaints
	p.complaints = nil
	return c
}

// described is what an exception says, which may be anything.
func described(exception *runtime.RemoteObject) string {
	if exception == nil {
		return ""
	}
	return exception.Description
}

func (p *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// eval returns what an expression is, in the page.
func eval[T any](p *tab, format string, args ...any) (value T) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression(format, args)))
	if err != nil {
		p.Fatal(err)
	}
	return value
}

// expression puts values into an expression, as JavaScript writes them.
func expression(format string, args []any) string {
	if len(args) == 0 {
		return format
	}
	for i, a := range args {
		text, err := json.Marshal(a)
		if err != nil {
			panic(err)
		}
		args[i] = string(text)
	}
	return fmt.Sprintf(format, args...)
}

// wait waits until an expression is true, and returns for how long it has not been.
func (p *tab) wait(format string, args ...any) time.Duration {
	p.Helper()
	began := time.Now()
	e := expression(format, args)
	for time.Since(began) < patience {
		if eval[bool](p, "Boolean("+e+")") {
			return time.Since(began)
		}
		time.Sleep(20 * time.Millisecond)
	}
	p.Fatalf("never true: %s\nthe page:\n%s", e, eval[string](p, "document.body.innerText"))
	return 0
}

// text waits until an element has a text in it.
func (p *tab) text(selector, text string) time.Duration {
	p.Helper()
	return p.wait("[...document.querySelectorAll(%s)].some((e) => e.checkVisibility() && e.textContent.includes(%s))", selector, text)
}

// noText waits until no element that is seen has a text in it.
func (p *tab) noText(selector, text string) time.Duration {
	p.Helper()
	return p.wait("![...document.querySelectorAll(%s)].some((e) => e.checkVisibility() && e.textContent.includes(%s))", selector, text)
}

// live waits until the page says that it shows what is.
func (p *tab) live() {
	p.Helper()
	p.wait(`document.getElementById("state")?.dataset.state === "live"`)
}

// view goes to one of the views, by its place in the address.
func (p *tab) view(hash string) {
	p.Helper()
	eval[chromedp.Void](p, "void (location.hash = %s)", hash)
}

// click clicks where an element is, as a mouse does.
func (p *tab) click(selector string) {
	p.Helper()
	p.wait("document.querySelector(%s)?.checkVisibility()", selector)
	p.run(chromedp.Click(chromedp.CSS(selector)))
}

// button clicks the one that is called so.
func (p *tab) button(called string) {
	p.Helper()
	p.wait(`(() => {
		const button = [...document.querySelectorAll("dialog[open] button, body:not(:has(dialog[open])) button")].find((b) => b.textContent.trim() === %s && b.checkVisibility() && !b.disabled);
		for (const old of document.querySelectorAll("[data-clicked]")) delete old.dataset.clicked;
		if (button) button.dataset.clicked = "";
		return button;
	})()`, called)
	p.run(chromedp.Click(chromedp.CSS("[data-clicked]")))
}

// keys presses keys.
func (p *tab) keys(keys string) {
	p.Helper()
	p.run(chromedp.KeyEvent(keys))
}

// press presses a key that means something, and types nothing.
func (p *tab) press(key rune) {
	p.Helper()
	for _, k := range kb.Encode(key) {
		if k.Type != kb.KeyChar {
			p.run(call(input.DispatchKeyEvent, *k))
		}
	}
}

// fill puts a text into a field, in the place of what is there.
func (p *tab) fill(selector, text string) {
	p.Helper()
	p.click(selector)
	eval[chromedp.Void](p, "void document.querySelector(%s).select()", selector)
	if text == "" {
		p.keys(kb.Delete)
	} else {
		p.keys(text)
	}
}

// rows are the texts of what a table has in its first column.
func (p *tab) rows() []string {
	p.Helper()
	return eval[[]string](p, `[...document.querySelectorAll("main tbody tr:not(.gone) td.main")].map((td) => td.textContent)`)
}

// picture keeps what is seen where somebody has asked for it, when a test has failed.
func (p *tab) picture() {
	dir := os.Getenv("LOCKD_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	if png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot()); err == nil {
		os.WriteFile(dir+"/"+strings.ReplaceAll(p.Name(), "/", "_")+".png", png, 0o666)
	}
}
