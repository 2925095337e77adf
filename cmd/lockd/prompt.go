package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/wire"
	"github.com/nylen/lockd/pkg/client"
)

// A prompt is a person's dialogue with a server, one request at a time. With a
// server that has it, it is in protocol 2, session 0: there every request has a
// reply, every reply an end, and a wait can be ended.
type prompt struct {
	*shellCmd
	ed    editor
	color bool

	mu    sync.Mutex // guards what follows
	link  *link      // nil: there is none
	busy  bool       // a request is under way: it tells of the link's end
	held  holdings
	token string // the `auth` that the server took
}

// ownWords are what the shell does itself.
var ownWords = []struct{ word, usage, help string }{
	{"help", "help [VERB]", "list the verbs, or explain one"},
	{"reconnect", "reconnect", "begin anew, holding nothing"},
	{"quit", "quit", "leave, and release what is held; so does Ctrl-D"},
}

// longestTyped is the least, in bytes, of what may be the beginning of a longer
// line: the editor keeps 4096 letters of it, the kernel 4095 bytes, and neither
// says so. The rest of a request would name another lock.
const longestTyped = 4095

// prompt runs it, and exits.
func (c *shellCmd) prompt() {
	p := &prompt{shellCmd: c, color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if err := p.connect(context.Background()); err != nil {
		fail(exitUnavailable, c.explain(err, c.ConnectTimeout))
	}
	path, err := historyPath()
	h := new(history)
	if err == nil {
		h, err = openHistory(path)
	}
	if err != nil {
		fmt.Fprintf(stderr, "lockd: what is typed here will not be known later: %v\n", err)
	}
	ed, err := newEditor(h, p.complete)
	if err != nil {
		fail(1, "cannot use the terminal: "+err.Error())
	}
	p.mu.Lock()
	p.ed = ed
	p.mu.Unlock()
	p.greet()
	p.settle()
	for stdout.err == nil {
		line, err := p.ed.readLine()
		if err != nil {
			p.say("")
			break
		}
		if !p.do(line) {
			break
		}
	}
	p.mu.Lock()
	if p.link != nil {
		p.link.close()
		p.link = nil
	}
	if text := p.held.end("released"); text != "" {
		p.say(text)
	}
	p.mu.Unlock()
	p.ed.close()
	exit(0)
}

// greet says where we are.
func (p *prompt) greet() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		p.say(fmt.Sprintf("connected to %s, protocol %d; help lists the verbs, Ctrl-D ends", p.at(), p.link.Protocol()))
	}
	p.showsLocked()
}

// showsLocked has the prompt show where we are.
func (p *prompt) showsLocked() {
	if p.link == nil {
		p.ed.setPrompt("not connected> ")
		return
	}
	p.ed.setPrompt(strings.TrimPrefix(p.at(), "tcp://") + "> ")
}

// at returns where we are connected to.
func (p *prompt) at() string {
	if targets, err := client.Targets(string(p.Server)); err == nil && len(targets) > 1 {
		return p.link.Target()
	}
	return string(p.Server)
}

// say prints a line.
func (p *prompt) say(text string) { fmt.Fprintln(p.ed, text) }

// do does what a line asks for. It tells whether to go on.
func (p *prompt) do(line string) bool {
	verb := string(verbOf(line))
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), verb))
	switch {
	case verb == "":
	case len(line) >= longestTyped:
		p.say("not sent: so long a line may lack its end; a script may have it (lockd shell < FILE)")
	case verb == "help":
		p.help(rest)
	case (verb == "quit" || verb == "exit") && rest == "":
		return false
	case verb == "reconnect" && rest == "":
		p.reconnect()
	case verb == wire.Auth && rest == "":
		token, err := p.ed.readSecret("token: ")
		if err != nil {
			p.say("")
			return false
		}
		p.ask(wire.Auth+" "+token, verb)
	default:
		p.ask(line, verb)
	}
	return true
}

// ask sends a request and shows its reply, if there is or can be a connection.
func (p *prompt) ask(line, verb string) {
	if l := p.connected(); l != nil {
		p.request(l, line, verb)
	}
	p.settle()
}

// connect makes a connection.
func (p *prompt) connect(ctx context.Context) error {
	c, err := p.dial(ctx, 2, p.ConnectTimeout)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = true // until it has settled
	p.link = newLink(c, p.ended)
	return nil
}

// connected returns the connection, which is made again if it was lost. It is
// nil if that fails.
func (p *prompt) connected() *link {
	p.mu.Lock()
	l, token := p.link, p.token
	p.busy = l != nil
	p.mu.Unlock()
	if l != nil {
		return l
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p.drop()
	go func() {
		select {
		case <-p.ed.interrupts():
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := p.connect(ctx); err != nil {
		text := p.explain(err, p.ConnectTimeout)
		if ctx.Err() != nil {
			text = "given up"
		}
		p.say(text)
		return nil
	}
	p.mu.Lock()
	l = p.link
	p.showsLocked()
	p.mu.Unlock()
	p.say("connected again; nothing is held")
	if token != "" {
		p.request(l, token, wire.Auth)
	}
	return l
}

// reconnect ends the connection, if there is one, and makes another.
func (p *prompt) reconnect() {
	p.mu.Lock()
	l := p.link
	p.link = nil
	text := p.held.end("released")
	p.mu.Unlock()
	if l != nil {
		l.close()
	}
	if text != "" {
		p.say(text)
	}
	p.connected()
	p.mu.Lock()
	p.showsLocked()
	p.mu.Unlock()
	p.settle()
}

// ended is called when a connection has ended.
func (p *prompt) ended(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link == l && !p.busy {
		p.lostLocked()
	}
}

// settle is called when no request is under way any more.
func (p *prompt) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	if p.link == nil {
		return
	}
	select {
	case <-p.link.ended:
		p.lostLocked()
	default:
	}
}

// lostLocked says that the connection is lost, and what with it.
func (p *prompt) lostLocked() {
	why := plainly(p.link.err, p.ConnectTimeout)
	if errors.Is(p.link.err, net.ErrClosed) { // by the second Ctrl-C
		why = errors.New("given up")
	}
	text := fmt.Sprintf("connection lost: %v", why)
	if locks := p.held.end("lost"); locks != "" {
		text += "; " + locks
	}
	p.link = nil
	p.showsLocked()
	p.say(text)
}

// knows returns whether there is a connection, and how to authenticate another
// one.
func (p *prompt) knows() (connected bool, token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link != nil, p.token
}

// holds returns the names held here that begin so.
func (p *prompt) holds(prefix string) (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.held.locks {
		if strings.HasPrefix(l.name, prefix) {
			names = append(names, l.name)
		}
	}
	return names
}

// drop forgets a Ctrl-C that was for something else.
func (p *prompt) drop() {
	select {
	case <-p.ed.interrupts():
	default:
	}
}

// A dialogue is a request and what comes of it.
type dialogue struct {
	*prompt
	link   *link
	verb   string
	start  time.Time
	isMark func([]byte) bool // protocol 1

	lines    int    // of the reply
	last     string // of them, without the session's number
	more     bool   // it is not the last one of the reply, for all that is known
	owed     bool   // it is shown, but for its end
	muted    bool   // nobody wants to see the rest
	canceled bool   // a cancel was sent
	replied  bool   // the reply is whole; that to the cancel is still to come
	took     time.Duration
}

const session0 = "0 "

// noticeable is after how long one is told that the server takes its time.
const noticeable = 2 * time.Second

// request sends a request and shows its reply.
func (p *prompt) request(l *link, line, verb string) {
	d := &dialogue{prompt: p, link: l, verb: verb, start: time.Now()}
	p.drop()
	var err error
	if l.Protocol() == 2 {
		err = l.Send(session0 + line)
	} else {
		d.isMark, err = l.SendMarked(line)
	}
	if errors.Is(err, client.ErrLineTooLong) {
		p.say("not sent: it is too long for this server")
		return
	}
	waiting := time.After(noticeable)
	for more := true; more; {
		select {
		case p, ok := <-l.parts:
			more = ok && d.show(p)
		case <-p.ed.interrupts():
			d.interrupt()
		case <-waiting:
			if d.lines == 0 && !d.canceled {
				p.say(p.dim("(no reply yet; Ctrl-C ends the wait)"))
			}
		}
	}
	d.endLine("  " + d.time())
	d.learn(line)
	d.explain()
}

// show shows a part. It tells whether there is more.
func (d *dialogue) show(p part) bool {
	switch {
	case d.replied:
		return !p.end
	case !p.begin:
	case d.isMark == nil:
		p.text = strings.TrimPrefix(p.text, session0)
		d.more = strings.HasPrefix(p.text, wire.Item)
	default:
		d.more = true
		if p.end && d.isMark([]byte(p.text)) {
			d.took = p.at.Sub(d.start)
			return false
		}
	}
	if p.begin {
		d.lines++
		d.last = p.text
	}
	if !d.muted {
		if p.begin {
			d.endLine("")
		}
		fmt.Fprint(d.ed, visible(p.text))
		d.owed = true
	}
	d.took = p.at.Sub(d.start)
	d.replied = p.end && !d.more
	return !d.replied || d.canceled
}

// endLine ends the line that is shown.
func (d *dialogue) endLine(with string) {
	if d.owed {
		fmt.Fprintln(d.ed, with)
	}
	d.owed = false
}

// interrupt is Ctrl-C. The first one ends a wait, or what is shown; the second
// one the connection.
func (d *dialogue) interrupt() {
	d.endLine("")
	switch {
	case d.canceled || d.muted:
		d.link.Close()
	case d.lines > 0:
		d.muted = true
		d.say("the rest is not shown; Ctrl-C again ends the connection")
	case d.isMark == nil:
		d.canceled = true
		d.link.Send(session0 + wire.Cancel)
	default:
		d.muted = true
		d.say("this server cannot end a wait; Ctrl-C again ends the connection")
	}
}

func (d *dialogue) time() string {
	return d.dim(fmt.Sprintf("(%.2f ms)", float64(d.took.Microseconds())/1000))
}

// learn takes notice of what the reply means for what is to come.
func (d *dialogue) learn(line string) {
	if d.lines != 1 || d.verbs[d.verb].Lists {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held.note(d.last)
	if d.verb == wire.Auth && d.last+"\n" == wire.OK {
		d.token = line
	}
}

// explain says what the reply, or that there is none, does not say plainly.
func (d *dialogue) explain() {
	v, known := d.verbs[d.verb]
	silent := d.isMark != nil && d.lines == 0
	if silent {
		select {
		case <-d.link.ended: // that is why
			return
		default:
		}
	}
	switch {
	case known && d.last == "0 "+wire.InvalidArgument+d.verb:
		d.say("usage: " + v.Usage() + limitsOf(v))
	case silent && v.Silent:
		d.say("no line: there is none  " + d.time())
	case !silent && d.last != "0 "+wire.InvalidCommand+d.verb:
	case known && silent:
		d.say("no reply: this server does not know the verb " + d.verb)
	case known:
		d.say("this server does not know it")
	case silent:
		d.say("no reply: there is no verb " + plain(d.verb) + "; help lists them")
	default:
		d.say("there is no such verb; help lists them")
	}
}

// dim makes a text less prominent than what the server said.
func (p *prompt) dim(text string) string {
	if !p.color {
		return text
	}
	return "\x1b[2m" + text + "\x1b[0m"
}

// help explains a verb, or lists them.
func (p *prompt) help(verb string) {
	if v, ok := p.verbs[verb]; ok {
		p.say(v.Usage() + ": " + v.Help + limitsOf(v) + "\nwho may: " + v.Roles + "; docs/protocol.md has its replies")
		return
	}
	for _, w := range ownWords {
		if w.word == verb {
			p.say(w.usage + ": " + w.help)
			return
		}
	}
	if verb != "" {
		p.say("there is no verb " + plain(verb) + "; help lists them")
		return
	}
	all := verbs()
	width := usageWidth(all)
	for _, v := range all {
		p.say(fmt.Sprintf("  %-*s  %s", width, v.Usage(), v.Help))
	}
	p.say("and, of the shell itself:")
	for _, w := range ownWords {
		p.say(fmt.Sprintf("  %-*s  %s", width, w.usage, w.help))
	}
	p.say("Tab completes verbs and names, Ctrl-C ends a wait, auth alone asks for the token.")
}

func usageWidth(verbs []session.Verb) (width int) {
	for _, v := range verbs {
		width = max(width, len(v.Usage()))
	}
	return width
}

// limitsOf are those of a verb's numbers, on lines of their own.
func limitsOf(v session.Verb) string {
	var out strings.Builder
	for _, a := range v.Args {
		switch {
		case a.Within != "":
			fmt.Fprintf(&out, "\n  %s is %d to %s", a.Word, a.Least, a.Within)
		case a.Least < a.Most:
			fmt.Fprintf(&out, "\n  %s is %d to %d", a.Word, a.Least, a.Most)
		}
	}
	return out.String()
}

// visible spells a reply for a terminal: as it is, but what would move the
// cursor, or is not UTF-8, in escapes. A tab stays: it is between columns.
func visible(text string) string {
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[0])
		case unicode.IsPrint(r) || r == '\t':
			out.WriteString(text[:size])
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out.String()
}
