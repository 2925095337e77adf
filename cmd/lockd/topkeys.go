package main

import (
	"time"
	"unicode/utf8"
)

// A topKey is what was typed: a letter, or the name of another key.
type topKey string

// A topWish is what the model cannot do itself.
type topWish int

const (
	wishNothing topWish = iota
	wishAsk             // the server, now
	wishQuit
	wishSuspend
	wishRedraw
	wishInterval // it has changed
)

// The intervals between which + and - choose.
var topIntervals = []time.Duration{
	500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// topHelp is what ? shows, and what --help says of keys.
var topHelp = [][2]string{
	{"Up Down j k", "choose a row; PgUp PgDn Home End"},
	{"1 2 3 Tab", "locks, clients, losses"},
	{"s > <", "sort by the next, the one before"},
	{"r", "turn the order round"},
	{"/", "show names that begin so; h:TEXT: whose holder has that in it"},
	{"Enter", "open a lock or a client; Esc goes back"},
	{"K F9", "kick: end a client; asks first"},
	{"p", "pause; Space asks the server now"},
	{"+ -", "ask more often, less often"},
	{"Ctrl-L", "draw anew; Ctrl-Z stops, fg goes on"},
	{"q Ctrl-C", "quit"},
}

// key takes what was typed.
func (m *topModel) key(k topKey) (topWish, string) {
	switch k {
	case "ctrl-c":
		return wishQuit, ""
	case "ctrl-z":
		return wishSuspend, ""
	case "ctrl-l":
		return wishRedraw, ""
	}
	switch {
	case m.asks != nil:
		return m.answerKey(k)
	case m.typing:
		return m.filterKey(k), ""
	case m.help:
		m.helpKey(k)
		return wishNothing, ""
	}
	m.notice = ""
	return m.plainKey(k), ""
}

// answerKey is one that answers the question: y alone means yes, and only once it
// is said what will be lost. The address is whom to end.
func (m *topModel) answerKey(k topKey) (topWish, string) {
	asks := m.asks
	if asks.known == nil && k == "y" {
		return wishNothing, ""
	}
	m.asks = nil
	if k == "y" {
		m.notice = "ending " + legible(asks.addr)
		return wishAsk, asks.addr
	}
	m.notice = "nobody was ended"
	return wishNothing, ""
}

// helpKey goes on in the help, if it is longer than the terminal, or ends it.
func (m *topModel) helpKey(k topKey) {
	switch k {
	case "down", "j", "pgdn":
		m.helpAt++
	case "up", "k", "pgup":
		m.helpAt--
	default:
		m.help, m.helpAt = false, 0
	}
	m.helpAt = max(min(m.helpAt, len(topHelp)-m.helpRoom()), 0)
}

// helpRoom is how many lines of help fit between the head, a title and the foot.
func (m *topModel) helpRoom() int { return max(m.height-m.headLines()-2, 0) }

func (m *topModel) filterKey(k topKey) topWish {
	switch k {
	case "enter":
		m.typing = false
	case "esc":
		m.typing, m.filter = false, ""
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-n]
	case "ctrl-u":
		m.filter = ""
	default:
		if !oneRune(string(k)) || len(m.filter) >= 256 {
			return wishNothing
		}
		m.filter += string(k)
	}
	m.lists[m.view] = topPage{}
	m.follow()
	return wishAsk // for more than are on the screen
}

func (m *topModel) plainKey(k topKey) topWish {
	switch k {
	case "q":
		return wishQuit
	case "esc", "backspace", "left":
		switch {
		case len(m.pages) > 0:
			m.pages = m.pages[:len(m.pages)-1]
			m.follow()
			return wishAsk
		case k == "esc" && m.filter != "":
			m.filter = ""
			m.follow()
			return wishAsk
		case k == "esc":
			return wishQuit
		}
	case "?", "h", "f1":
		m.help = true
	case "up", "k":
		m.move(-1)
	case "down", "j":
		return m.moveDown(1)
	case "pgup":
		m.move(-m.room())
	case "pgdn":
		return m.moveDown(m.room())
	case "home", "g":
		m.move(-m.page().row)
	case "end", "G":
		return m.moveDown(len(m.rows()))
	case "1", "2", "3":
		m.show(topView(k[0] - '1'))
		return wishAsk
	case "tab":
		m.show((m.view + 1) % views)
		return wishAsk
	case "backtab":
		m.show((m.view + views - 1) % views)
		return wishAsk
	case "s", ">":
		return m.sortBy(1)
	case "<":
		return m.sortBy(-1)
	case "r":
		m.turned[m.view] = !m.turned[m.view]
		m.follow()
	case "/":
		m.pages, m.typing = nil, true
	case "enter", "right":
		return m.enter()
	case "K", "f9", "delete":
		return m.askKick()
	case "p":
		m.paused = !m.paused
		if !m.paused {
			return wishAsk
		}
	case " ", "f5":
		return wishAsk
	case "+", "=":
		return m.faster(-1)
	case "-":
		return m.faster(1)
	}
	return wishNothing
}

// moveDown asks for more rows when those that are there come to an end.
func (m *topModel) moveDown(by int) topWish {
	before := m.want().count
	m.move(by)
	if m.want().count > before {
		return wishAsk
	}
	return wishNothing
}

func (m *topModel) sortBy(step int) topWish {
	if len(m.pages) > 0 {
		return wishNothing
	}
	n := len(topOrders[m.view])
	m.orders[m.view] = (m.orders[m.view] + step + n) % n
	m.lists[m.view] = topPage{}
	return wishAsk
}

func (m *topModel) faster(step int) topWish {
	i := 0
	for i < len(topIntervals)-1 && topIntervals[i] < m.interval {
		i++
	}
	m.interval = topIntervals[max(min(i+step, len(topIntervals)-1), 0)]
	return wishInterval
}

// enter opens what is chosen. If a filter leaves nothing in the list, that is the
// lock of its name, which need not be among the first of any order.
func (m *topModel) enter() topWish {
	row, ok := m.chosen()
	page := m.page()
	switch {
	case !ok && page.kind == pageList && m.filter != "" && m.view != viewClients:
		m.open(pageLock, m.filter)
	case !ok || page.kind == pageLock && row.addr == "", !row.lock && m.view == viewLosses && page.kind == pageList:
		return wishNothing
	case page.kind == pageLock, page.kind == pageList && m.view == viewClients:
		m.open(pageClient, connectionOf(row.addr))
	default:
		m.open(pageLock, row.name)
	}
	if len(m.pages) > 16 { // from a lock to a client to a lock, for ever
		m.pages = m.pages[1:]
	}
	return wishAsk
}

// askKick asks whether to end who is chosen.
func (m *topModel) askKick() topWish {
	addr, waits := "", ""
	if row, ok := m.chosen(); ok {
		if addr = row.addr; row.waits {
			waits = row.name
		}
	}
	if page := m.page(); page.kind == pageClient {
		addr = page.name
	}
	switch {
	case m.view == viewLosses && m.page().kind == pageList:
		m.notice = "a loss is over: there is nobody to end"
	case addr == "":
		m.notice = "there is nobody to end"
	case m.lost != nil:
		m.notice = "the server is away"
	default:
		m.asks = &topConfirm{addr: addr, waits: waits}
		return wishAsk
	}
	return wishNothing
}
