package browser

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestPictures makes those in docs, into the folder that LOCKD_DOCS names, from a
// server that is used as one might be:
//
//	LOCKD_DOCS=$PWD/../../docs go test -run TestPictures . && pngquant --ext .png --force ../../docs/page-*.png
func TestPictures(t *testing.T) {
	dir := os.Getenv("LOCKD_DOCS")
	if dir == "" {
		t.Skip("LOCKD_DOCS names no folder for them")
	}
	s := process(t, "--max-connections", "60")
	stop := s.everyday()
	defer stop()
	light := open(t, view{width: 1280, height: 1010, scale: 1}, s.url(""))
	dark := open(t, view{width: 1280, height: 560, scale: 1, dark: true}, s.url("#/locks"))
	phone := open(t, view{width: 390, height: 800, scale: 1.5, phone: true}, s.url("#/lock/deploy%2Fweb"))
	light.live()
	light.button("1 min")
	light.wait(`/^Requests: /.test(document.querySelector(".chart svg").getAttribute("aria-label"))`)
	time.Sleep(75 * time.Second) // for the charts to have something to show
	for name, p := range map[string]*tab{"light": light, "dark": dark, "phone": phone} {
		p.settled()
		png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "page-"+name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// process starts a server that is a process of its own, so that its figures are its
// own.
func process(t *testing.T, flags ...string) *running {
	needBrowser(t)
	program := filepath.Join(t.TempDir(), "lockd")
	build := exec.Command("go", "build", "-o", program, "./cmd/lockd")
	build.Dir = filepath.Join("..", "..") // the module around this one
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	cmd := exec.Command(program, append([]string{"serve", "--tcp", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, flags...)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	r := &running{T: t, at: make(map[string]string)}
	lines := bufio.NewScanner(log)
	for r.at["admin"] == "" && lines.Scan() {
		for _, word := range strings.Fields(lines.Text()) {
			if key, value, ok := strings.Cut(word, "="); ok {
				r.at[key] = value
			}
		}
	}
	go io.Copy(io.Discard, log)
	return r
}

// everyday has clients do what they do every day, until stop.
func (r *running) everyday() (stop func()) {
	over := make(chan struct{})
	var all sync.WaitGroup
	// Long jobs, each held by one.
	for name, lock := range map[string]string{
		"backup@db1": "backup/db1", "reindex@search2": "search/reindex", "importer-3": "import/customers", "importer-1": "import/orders",
		"cron@app4": "cron/nightly-report", "mailer-2": "mail/newsletter", "billing-1": "billing/2026-11",
	} {
		r.client(name).ask("g "+lock, "1 ")
	}
	leader := r.client("scheduler-a")
	leader.ask("g lead/scheduler", "1 ")
	for _, name := range []string{"scheduler-b", "scheduler-c"} {
		r.client(name).send("gw 3600000 lead/scheduler")
	}
	for i := range 3 {
		r.client(fmt.Sprintf("api-%d", i+1)).ask("sg maintenance/off", "")
	}
	deployer := r.client("deployer-1")
	deployer.ask("g deploy/web", "1 ")
	for i := range 4 {
		r.client(fmt.Sprintf("deployer-%d", i+2)).send("gw 3600000 deploy/web")
		time.Sleep(300 * time.Millisecond)
	}
	// Workers, which take what is free, wait for a while, and count what they send.
	for w := range 20 {
		c := r.client(fmt.Sprintf("worker-%02d", w+1))
		all.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			for {
				select {
				case <-over:
					return
				case <-time.After(time.Duration(1+rnd.IntN(8)) * time.Millisecond):
				}
				name := fmt.Sprintf("thumbnails/%04d", rnd.IntN(120))
				if w%3 == 0 {
					c.send("gw 200 " + name)
				} else {
					c.send("g " + name)
				}
				got, err := c.reply()
				if err != nil {
					return
				}
				c.send("rl 1200 1000 1 api/partner")
				c.reply()
				if got[0] == '1' {
					time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
					c.send("r " + name)
					c.reply()
				}
			}
		})
	}
	// And some that die with what they hold.
	all.Go(func() {
		for i := 0; ; i++ {
			c := r.client(fmt.Sprintf("spot-worker-%d", i+1))
			c.ask(fmt.Sprintf("g video/encode-%04d", 1200+i), "1 ")
			select {
			case <-over:
				return
			case <-time.After(15 * time.Second):
			}
			c.Close()
		}
	})
	return func() {
		close(over)
		all.Wait()
	}
}
