package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3"
	"golang.org/x/term"

	"github.com/nylen/lockd/internal/command"
)

// A topScreen is the terminal: tcell's screen, which sends what has changed, with an
// output that waits for nobody. Whatever ends the program, leave comes first.
type topScreen struct {
	tcell.Screen
	out   *topOutput
	saved *term.State
	shown *grid
	anew  bool      // all is to be sent, not only what has changed
	left  sync.Once // the terminal is as it was
}

func openTopScreen() (*topScreen, error) {
	saved, err := term.GetState(stdout.fd())
	if err != nil {
		return nil, err
	}
	tty, err := tcell.NewDevTty()
	if err != nil {
		return nil, fmt.Errorf("cannot open the terminal: %w", err)
	}
	out := newTopOutput(tty)
	// Nothing is asked of the terminal, whose answers would be typed into the shell
	// if they came late; sixteen colours are enough.
	opts := []tcell.TerminfoScreenOption{tcell.OptNegotiation(false), tcell.OptSanitizeContent(true)}
	if os.Getenv("NO_COLOR") != "" {
		opts = append(opts, tcell.OptColors(0))
	}
	screen, err := tcell.NewTerminfoScreenFromTty(out, opts...)
	if err != nil {
		return nil, err
	}
	s := &topScreen{Screen: screen, out: out, saved: saved}
	if err := screen.Init(); err != nil {
		term.Restore(stdout.fd(), saved)
		return nil, fmt.Errorf("cannot use the terminal: %w", err)
	}
	screen.EnablePaste()
	return s, nil
}

// leaveFor is how long leaving may take with a terminal that takes nothing.
const leaveFor = 2 * time.Second

// leave gives the terminal back as it was. If it takes no more output, as over a
// line that hangs, at least its modes are what they were.
func (s *topScreen) leave() {
	s.left.Do(func() {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			s.Fini()
		}()
		select {
		case <-gone:
		case <-time.After(leaveFor):
			term.Restore(stdout.fd(), s.saved)
		}
	})
}

// draw shows a grid, if it is another one.
func (s *topScreen) draw(g *grid) {
	if g.equal(s.shown) && !s.anew {
		return
	}
	for y := range g.height {
		for x := 0; x < g.width; x++ {
			if c := g.cells[y*g.width+x]; c.text != "" {
				s.Put(x, y, c.text, c.style.tcell())
			}
		}
	}
	s.HideCursor()
	if g.cursor {
		s.ShowCursor(g.x, g.y)
	}
	if s.anew {
		s.Sync()
	} else {
		s.Show()
	}
	s.shown, s.anew = g, false
}

func (s gridStyle) tcell() tcell.Style {
	style := tcell.StyleDefault
	if s&styleBold != 0 {
		style = style.Bold(true)
	}
	if s&styleDim != 0 {
		style = style.Dim(true)
	}
	if s&styleReverse != 0 {
		style = style.Reverse(true)
	}
	if s&styleRed != 0 {
		style = style.Foreground(tcell.ColorMaroon)
	}
	if s&styleGreen != 0 {
		style = style.Foreground(tcell.ColorGreen)
	}
	return style
}

// keyOf names what was typed.
func keyOf(ev *tcell.EventKey) topKey {
	names := map[tcell.Key]topKey{
		tcell.KeyUp: "up", tcell.KeyDown: "down", tcell.KeyLeft: "left", tcell.KeyRight: "right", tcell.KeyPgUp: "pgup", tcell.KeyPgDn: "pgdn",
		tcell.KeyHome: "home", tcell.KeyEnd: "end", tcell.KeyTab: "tab", tcell.KeyBacktab: "backtab", tcell.KeyEnter: "enter",
		tcell.KeyEsc: "esc", tcell.KeyBackspace: "backspace", tcell.KeyBackspace2: "backspace", tcell.KeyDelete: "delete",
		tcell.KeyCtrlC: "ctrl-c", tcell.KeyCtrlZ: "ctrl-z", tcell.KeyCtrlL: "ctrl-l", tcell.KeyCtrlU: "ctrl-u",
		tcell.KeyF1: "f1", tcell.KeyF5: "f5", tcell.KeyF9: "f9",
	}
	if ev.Key() == tcell.KeyRune {
		if ev.Modifiers()&(tcell.ModCtrl|tcell.ModAlt|tcell.ModMeta) != 0 {
			return ""
		}
		return topKey(ev.Str())
	}
	return names[ev.Key()]
}

// A topWatch is the loop between the terminal, the model and the server.
type topWatch struct {
	m      *topModel
	screen *topScreen
	wants  chan topWant
	pics   chan *topPicture
	asking bool     // the server is being asked
	again  bool     // and is to be asked again, for something else has been chosen
	kick   []string // who is to be ended, one after the other
	paste  bool

	failed    chan any      // why there will be no more pictures
	ending    chan struct{} // closed when a signal ends the process
	continued <-chan os.Signal
}

// watch shows the server until one quits.
func (c *topCmd) watch(m *topModel, poller *topPoller) (err error) {
	screen, err := openTopScreen()
	if err != nil {
		return err
	}
	w := &topWatch{
		m: m, screen: screen, wants: make(chan topWant, 1), pics: make(chan *topPicture, 1),
		failed: make(chan any, 1), ending: make(chan struct{}),
	}
	left := make(chan struct{})
	defer screen.leave() // also if it panics
	stop := command.Inherit().EndOnSignal(func() {
		close(w.ending)
		select {
		case <-left:
		case <-time.After(2 * leaveFor):
		}
	}, exit)
	ctx, cancel := context.WithCancel(context.Background())
	go w.answer(ctx, poller)
	err = w.loop()
	cancel()
	screen.leave()
	close(left)
	stop()
	return err
}

// answer asks the server what is wanted, until the process ends.
func (w *topWatch) answer(ctx context.Context, poller *topPoller) {
	defer func() {
		if p := recover(); p != nil { // here it would not give the terminal back
			w.failed <- fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	for want := range w.wants {
		w.pics <- poller.poll(ctx, want)
	}
}

func (w *topWatch) loop() error {
	m := w.m
	m.width, m.height = w.screen.Size()
	// The console of a Linux machine speaks UTF-8, but its fonts lack most blocks.
	m.ascii = wideLetters || os.Getenv("TERM") == "linux" || !strings.HasPrefix(strings.ToLower(w.screen.CharacterSet()), "utf")
	continued, forget := whenContinued()
	defer forget()
	w.continued = continued
	tick := time.NewTicker(m.interval)
	defer tick.Stop()
	w.draw()
	for {
		select {
		case p := <-w.failed:
			panic(p)
		case <-w.ending:
			return nil
		case pic := <-w.pics:
			w.asking = false
			m.got(pic)
			if w.again || len(w.kick) > 0 {
				w.again = false
				w.ask()
			}
		case <-tick.C:
			m.now = time.Now()
			if !m.paused {
				w.ask()
			}
		case <-w.screen.out.idle:
		case <-continued: // it was stopped by others, and whoever had the terminal may have changed it
			if err := w.suspend(func() {}); err != nil {
				return err
			}
		case ev, ok := <-w.screen.EventQ():
			if !ok {
				return nil
			}
			switch ev := ev.(type) {
			case *tcell.EventError:
				return topGone(ev)
			case *tcell.EventResize:
				// Not the event's own size: those of two changes may come in either order.
				m.width, m.height = w.screen.Size()
				m.follow()
				w.screen.shown = nil
			case *tcell.EventPaste:
				w.paste = ev.Start()
			case *tcell.EventKey:
				if w.paste && !m.typing {
					break // whatever that is, it was not meant for keys
				}
				wish, addr := m.key(keyOf(ev))
				if addr != "" {
					w.kick = append(w.kick, addr)
				}
				switch wish {
				case wishQuit:
					return nil
				case wishSuspend:
					if err := w.suspend(w.stop); err != nil {
						return err
					}
				case wishRedraw:
					w.screen.anew = true
				case wishInterval:
					tick.Reset(m.interval)
				case wishAsk:
					w.ask()
				}
			}
		}
		w.draw()
	}
}

func (w *topWatch) draw() {
	if w.screen.out.busy() {
		return // when that is over there is a picture of then
	}
	w.screen.draw(w.m.frame())
}

// ask asks the server, or does so when it has answered.
func (w *topWatch) ask() {
	if w.asking {
		w.again = true
		return
	}
	want := w.m.want()
	if len(w.kick) > 0 {
		want.kick, w.kick = w.kick[0], w.kick[1:]
	}
	w.asking = true
	w.wants <- want
}

// suspend gives the terminal back, and takes it anew.
func (w *topWatch) suspend(meanwhile func()) error {
	if err := w.screen.Suspend(); err != nil {
		return err
	}
	meanwhile()
	if err := w.screen.Resume(); err != nil {
		return fmt.Errorf("cannot use the terminal: %w", err)
	}
	w.screen.EnablePaste()
	w.screen.shown = nil
	w.m.width, w.m.height = w.screen.Size()
	w.m.follow()
	return nil
}

// stop stops the process, as Ctrl-Z does others. The signal may come a moment after
// it was sent, and the terminal must not be taken before.
func (w *topWatch) stop() {
	stopSelf()
	select {
	case <-w.continued:
	case <-time.After(stopsWithin): // there is nobody who would continue it
	}
}

const stopsWithin = time.Second

// topGone says what the end of the terminal means: it was closed, which is how
// many a session ends.
func topGone(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return fmt.Errorf("the terminal is gone: %w", err)
}
