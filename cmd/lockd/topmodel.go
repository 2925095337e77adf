package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A topModel is all that lockd top shows and is asked for. It has no terminal and
// no server: keys and pictures go in, wishes and grids come out.
type topModel struct {
	target        string
	width, height int
	ascii         bool // the terminal shows nothing else
	now           time.Time
	interval      time.Duration
	paused        bool

	view   topView
	orders [views]int // which of topOrders
	turned [views]bool
	filter string
	typing bool // the filter
	help   bool
	helpAt int        // the first line of it that is shown
	pages  []*topPage // what is open above the list; the last one is shown
	lists  [views]topPage
	asks   *topConfirm
	notice string // of what was done last, until the next key

	pic     *topPicture        // the last one with an answer
	base    *topPicture        // from whose numbers on the next rates are
	rates   map[string]float64 // how much counters grow a second; nil: not known yet
	history []float64          // requests a second
	lost    error              // why there is no answer now
	since   time.Time          // since when
}

// A topPage is a list, or what is known of one lock or client, with the place
// in it.
type topPage struct {
	kind     pageKind
	name     string // of the lock, or the client's address
	row      int    // the chosen one
	offset   int    // the first one that is shown
	key      string // of the chosen one, once it was chosen: it is followed
	answered bool   // there was a picture with it
}

type pageKind int

const (
	pageList pageKind = iota
	pageLock
	pageClient
)

// A topConfirm is the question before a client is ended.
type topConfirm struct {
	addr  string
	waits string      // for which lock it waits, if it was chosen there
	known *topPicture // what it holds; nil as long as it was not told
}

// A topOrder is one way to sort a list: by the server, of all there are, or here,
// of the first of the server's.
type topOrder struct {
	label  string
	server string
	column string // whose title is marked
}

var topOrders = [views][]topOrder{
	viewLocks:   {{"longest queue first", "queue", "QUEUE"}, {"oldest first", "oldest", "HELD"}, {"busiest first", "busiest", "REQ/S"}, {"by name", "queue", "NAME"}},
	viewClients: {{"most locks first", "locks", "LOCKS"}, {"most waits first", "waits", "WAITS"}, {"most bytes first", "bytes", "BYTES"}, {"oldest first", "oldest", "AGE"}, {"by name", "locks", "NAME"}},
	viewLosses:  {{"newest first", "", "AGO"}, {"longest first", "", "LOST"}, {"by name", "", "NAME"}},
}

const (
	topFew     = 100  // rows that are asked for
	topMost    = 1000 // or if one looks for some in them; a server lists no more
	topHistory = 300  // values that are kept
	topLosses  = 20   // that are shown of one lock
)

func newTopModel(target string, interval time.Duration) *topModel {
	return &topModel{target: target, interval: interval, width: 80, height: 24}
}

func (m *topModel) order() topOrder { return topOrders[m.view][m.orders[m.view]] }

// page is what is shown.
func (m *topModel) page() *topPage {
	if n := len(m.pages); n > 0 {
		return m.pages[n-1]
	}
	return &m.lists[m.view]
}

// want is what to ask the server for next.
func (m *topModel) want() topWant {
	w := topWant{view: m.view, order: m.order().server, count: topFew}
	page := m.page()
	// By name, and by what is sorted or looked for here, all that there are matter.
	if m.filter != "" || m.order().column == "NAME" || m.lists[m.view].row+m.height > topFew {
		w.count = topMost
	}
	switch page.kind {
	case pageLock:
		name := page.name
		w.lock = &name
	case pageClient:
		w.mine = true
	}
	if m.asks != nil && m.asks.known == nil {
		w.mine = true
	}
	return w
}

// got takes what came of asking.
func (m *topModel) got(p *topPicture) {
	m.now = p.at
	if p.want.kick != "" {
		m.kicked(p)
	}
	if p.lost != nil {
		if m.lost == nil {
			m.since = p.at
		}
		m.lost = p.lost
		return
	}
	m.lost = nil
	m.count(p)
	if m.pic != nil { // until it is asked for again
		if !p.has(viewLocks) {
			p.locks = m.pic.locks
		}
		if !p.has(viewClients) {
			p.clients = m.pic.clients
		}
		if !p.has(viewLosses) {
			p.losses = m.pic.losses
		}
	}
	m.pic = p
	if m.asks != nil && m.asks.known == nil && p.want.mine {
		m.asks.known = p
	}
	page := m.page()
	switch page.kind {
	case pageList:
		page.answered = page.answered || p.want.view == m.view
	case pageClient:
		page.answered = page.answered || p.want.mine
	case pageLock:
		if p.want.lock != nil && *p.want.lock == page.name {
			page.answered = true
		} else { // it was asked before that page was opened
			p.entries, p.entriesErr, p.lossesOf, p.lossesErr = nil, nil, nil, nil
		}
	}
	m.follow()
}

func (m *topModel) kicked(p *topPicture) {
	switch {
	case p.kicked != "":
		m.notice = "ended " + legible(p.kicked)
	case p.kickErr != nil:
		m.notice = "not ended: " + kickRefused(p.kickErr)
	}
}

// leastSpan is from how long a time on rates are made: in less they would jump.
const leastSpan = 200 * time.Millisecond

// count makes rates of the counters.
func (m *topModel) count(p *topPicture) {
	if p.numbers == nil {
		return
	}
	if m.base != nil {
		span := p.at.Sub(m.base.at)
		if now, told := p.numbers["uptime_ms"]; told {
			span = time.Duration(now-m.base.numbers["uptime_ms"]) * time.Millisecond
		}
		switch {
		case span < 0: // it is another server
			m.rates, m.history = nil, nil
		case span < leastSpan:
			return
		default:
			m.rates = make(map[string]float64)
			for key, n := range p.numbers {
				m.rates[key] = max(float64(n-m.base.numbers[key])/span.Seconds(), 0)
			}
			m.history = append(m.history, m.rates["requests"])
			if len(m.history) > topHistory {
				m.history = slices.Delete(m.history, 0, len(m.history)-topHistory)
			}
		}
	}
	m.base = p
}

// rate is how much a counter grows a second.
func (m *topModel) rate(key string) (float64, bool) {
	n, known := m.rates[key]
	return n, known
}

// rows are what the page lists.
func (m *topModel) rows() []topRow {
	page := m.page()
	if m.pic == nil {
		return nil
	}
	switch page.kind {
	case pageLock:
		return entryRows(m.pic.entries)
	case pageClient:
		return lockRows(locksOf(m.pic, page.name))
	}
	var rows []topRow
	switch m.view {
	case viewLocks:
		rows = lockRows(m.pic.locks)
	case viewClients:
		rows = clientRows(m.pic.clients)
	case viewLosses:
		rows = lossRows(m.pic.losses, m.now.Sub(m.pic.at))
	}
	if m.filter != "" {
		rows = slices.DeleteFunc(rows, func(r topRow) bool { return !r.matches(m.filter) })
	}
	switch m.order().label {
	case "by name":
		slices.SortStableFunc(rows, func(a, b topRow) int { return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.addr, b.addr)) })
	case "longest held first":
		slices.SortStableFunc(rows, func(a, b topRow) int { return cmp.Compare(b.lasted, a.lasted) })
	}
	if m.turned[m.view] {
		slices.Reverse(rows)
	}
	return rows
}

// locksOf are those that a client holds, of all that a picture has.
func locksOf(p *topPicture, addr string) (found []client.TopLock) {
	for _, l := range p.locks {
		if connectionOf(l.Addr) == connectionOf(addr) {
			found = append(found, l)
		}
	}
	return found
}

// clientOf is a client's row, if a picture has it.
func clientOf(p *topPicture, addr string) *client.Connection {
	for i, c := range p.clients {
		if connectionOf(c.Addr) == connectionOf(addr) {
			return &p.clients[i]
		}
	}
	return nil
}

// follow keeps the chosen row chosen wherever it has gone, and on the screen.
func (m *topModel) follow() {
	page, rows := m.page(), m.rows()
	if page.key != "" {
		if i := slices.IndexFunc(rows, func(r topRow) bool { return r.key == page.key }); i >= 0 {
			page.row = i
		}
	}
	m.choose(page, rows, page.row)
}

func (m *topModel) choose(page *topPage, rows []topRow, row int) {
	page.row = max(min(row, len(rows)-1), 0)
	room := max(m.room(), 1)
	page.offset = max(min(page.offset, page.row, len(rows)-1), 0)
	if page.row >= page.offset+room {
		page.offset = page.row - room + 1
	}
}

// move chooses another row.
func (m *topModel) move(by int) {
	page, rows := m.page(), m.rows()
	m.choose(page, rows, page.row+by)
	page.key = ""
	if page.row < len(rows) && page.row > 0 { // on the first one stays who goes there
		page.key = rows[page.row].key
	}
}

// chosen is the row that is chosen, if there is one.
func (m *topModel) chosen() (topRow, bool) {
	rows, page := m.rows(), m.page()
	if page.row >= len(rows) {
		return topRow{}, false
	}
	return rows[page.row], true
}

func (m *topModel) show(view topView) {
	m.view, m.pages = view, nil
	m.follow()
}

func (m *topModel) open(kind pageKind, name string) {
	m.pages = append(m.pages, &topPage{kind: kind, name: name})
	if m.pic != nil {
		m.pic.entries, m.pic.entriesErr, m.pic.lossesOf, m.pic.lossesErr = nil, nil, nil, nil
	}
}

// A topRow is a line of a list.
type topRow struct {
	key    string // the same for the same thing in the next picture
	name   string // of a lock, to open and to find it
	lock   bool   // whether name is one's
	addr   string // of whom one can end
	who    string // further words to find it by
	lasted time.Duration
	cells  []string // for each column of its page
	waits  bool     // it is a wait
}

// matches tells whether a row is one of a filter's: its name begins so or, behind
// h:, its holder's name, address or identity has that in it.
func (r topRow) matches(filter string) bool {
	if who, is := strings.CutPrefix(filter, "h:"); is {
		return strings.Contains(strings.ToLower(r.addr+"\t"+r.who), strings.ToLower(who))
	}
	if !r.lock { // a client: by whatever it is called
		return strings.Contains(strings.ToLower(r.addr+"\t"+r.name+"\t"+r.who), strings.ToLower(filter))
	}
	return strings.HasPrefix(r.name, filter)
}

func lockRows(locks []client.TopLock) []topRow {
	var rows []topRow
	for _, l := range locks {
		who := l.Registered
		if who == l.Addr {
			who = ""
		}
		rows = append(rows, topRow{
			key: string(l.Kind) + "\t" + l.Name, name: l.Name, lock: true, addr: l.Addr, who: who, lasted: l.Held,
			cells: []string{legible(l.Name), kindCell(l.Kind), heldCell(l), numberCell(int64(l.Queue)), waitCell(l), busyCell(l.Busy),
				holderCell(l.Addr, l.Registered, l.Holders), nameOrNone(l.Addr), tokenCell(l)},
		})
	}
	return rows
}

func clientRows(clients []client.Connection) []topRow {
	var rows []topRow
	for _, c := range clients {
		who := whoIs(client.Entry{Addr: c.Addr, Registered: cmp.Or(c.Registered, c.Addr), More: c.More})
		rows = append(rows, topRow{
			key: c.Addr, name: c.Registered, addr: c.Addr, who: c.Identity + "\t" + who, lasted: c.Age,
			cells: []string{nameOrNone(c.Addr), orNone(fewMarks(who)), nameOrNone(c.Identity), overCell(c.Transport), lasting(c.Age),
				numberCell(int64(c.Sessions)), numberCell(int64(c.Locks)), numberCell(int64(c.Waits)), shortBytes(float64(c.Bytes))},
		})
	}
	return rows
}

func lossRows(losses []client.Loss, since time.Duration) []topRow {
	var rows []topRow
	for _, l := range losses {
		rows = append(rows, topRow{
			key: strconv.FormatUint(l.Seq, 10), name: l.Name, lock: l.More == 0, addr: l.Addr, who: l.Registered + "\t" + l.Identity, lasted: l.Lasted,
			cells: []string{lasting(l.Ago + since), lossName(l), nameOrNone(string(l.Kind)), fewMarks(lostCell(l)), lossWhy(l), numberCell(int64(l.Waiting)),
				holderCell(l.Addr, l.Registered, 1), nameOrNone(l.Addr), tokenCell(client.TopLock{Token: l.Token})},
		})
	}
	return rows
}

func entryRows(entries []client.Entry) []topRow {
	var rows []topRow
	for place, e := range places(entries) {
		if e.Kind == client.KindRate {
			continue
		}
		who := whoIs(e)
		rows = append(rows, topRow{
			key: string(e.Kind) + "\t" + string(e.State) + "\t" + e.Addr, name: e.Name, lock: true, addr: e.Addr, who: who, lasted: e.Since,
			waits: e.State == client.StateWaits, cells: []string{stateOf(e, place), kindCell(e.Kind), lasting(e.Since), entryWho(e), nameOrNone(e.Addr), numberOf(e)},
		})
	}
	return rows
}
