package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// How a topModel looks. From the top: who the server is and whether it answers,
// its numbers, what is listed, the list, and a line for questions and answers. On
// a low terminal there are fewer numbers.

const (
	sparkLevels, sparkASCII = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
	barLevels, barASCII     = "░▏▎▍▌▋▊▉█", ".-=#"
)

func (m *topModel) ellipsis() string {
	if m.ascii {
		return "~"
	}
	return "…"
}

// headLines is how many lines of numbers there are.
func (m *topModel) headLines() int {
	switch {
	case m.height >= 18:
		return 4
	case m.height >= 10:
		return 2
	}
	return 1
}

// room is how many rows of the list fit: what is above is the head, the tabs and the
// titles, and below one line. The view of a lock leaves some to its losses.
func (m *topModel) room() int {
	room := m.height - m.headLines() - 3
	if m.page().kind != pageList {
		room -= m.detailLines()
	}
	return max(room, 0)
}

// detailLines is how much of a page about one lock or client is above and below
// its list.
func (m *topModel) detailLines() int {
	n := 1
	if m.page().kind == pageLock && m.height >= 16 {
		n += 2 + m.lossLines()
	}
	return n
}

func (m *topModel) lossLines() int {
	if m.pic == nil {
		return 0
	}
	return max(min(len(m.pic.lossesOf), m.height/3), 1)
}

// frame draws all of it.
func (m *topModel) frame() *grid {
	g := newGrid(m.width, m.height)
	m.drawHead(g)
	y := m.headLines()
	switch {
	case m.help:
		m.drawHelp(g, y)
	case m.asks != nil:
		m.drawQuestion(g, y)
	default:
		y = m.drawTabs(g, y)
		m.drawList(g, y)
	}
	m.drawFoot(g)
	if m.lost != nil { // what is there is old
		for y := 1; y < m.height-1; y++ {
			g.fill(0, y, styleDim)
		}
	}
	return g
}

// firstFitting writes the fullest of some texts that has room.
func (m *topModel) firstFitting(g *grid, x, y, width int, style gridStyle, texts ...string) {
	for _, text := range texts {
		if widthOf(text) <= width {
			g.put(x, y, text, style)
			return
		}
	}
	g.put(x, y, shorten(texts[len(texts)-1], width, m.ellipsis()), style)
}

func (m *topModel) drawHead(g *grid) {
	state, style := "connected", styleGreen
	switch {
	case m.lost != nil:
		state, style = fmt.Sprintf("away for %s", ago(m.now.Sub(m.since))), styleRed|styleBold
	case m.pic == nil:
		state, style = "connecting", stylePlain
	case m.paused:
		state, style = "paused", styleBold
	}
	left := "lockd top  " + legible(m.target)
	up := ""
	if m.pic != nil {
		if ms, told := m.pic.numbers["uptime_ms"]; told {
			up = "  up " + ago(time.Duration(ms)*time.Millisecond)
		}
		if m.pic.version != "" {
			up = "  " + legible(m.pic.version) + up
		}
		if m.lost == nil && m.pic.numbers["draining"] > 0 {
			state, style = "shutting down", styleRed|styleBold
		}
	}
	right := fmt.Sprintf("every %v  %s", m.interval, m.now.Format(time.TimeOnly))
	// The state is what must not be missing.
	room := m.width - len(state) - 2
	switch {
	case widthOf(left+up)+len(right)+2 <= room:
		g.put(m.width-len(right), 0, right, styleDim)
	case widthOf(left+up) <= room:
	case widthOf(left) <= room:
		up = ""
	default:
		left, up = shorten(left, room, m.ellipsis()), ""
	}
	x := g.put(0, 0, left, styleBold)
	x = g.put(x+2, 0, state, style)
	g.put(x, 0, up, stylePlain)
	if m.pic == nil {
		return
	}
	lines := []func(*grid, int){m.drawRequests, m.drawRates, m.drawBounds}[:m.headLines()-1]
	if m.pic.numbersErr != nil && len(lines) > 0 {
		g.put(0, 1, shorten("numbers: "+m.refusal(m.pic.numbersErr), m.width, m.ellipsis()), stylePlain)
		return
	}
	for i, draw := range lines {
		draw(g, i+1)
	}
}

// leastRequests is from how many a second on it is told what one costs: of fewer, most
// is what the server does anyway.
const leastRequests = 100

// drawRequests draws how much there is to do, and what it costs.
func (m *topModel) drawRequests(g *grid, y int) {
	requests, known := m.rate("requests")
	text := "requests/s " + dashIf(!known, perSecond(requests))
	x := g.put(0, y, pad(text, 16, false, m.ellipsis()), styleBold)
	cost := ""
	if cpu, told := m.rate("cpu_us"); told {
		if requests >= leastRequests {
			cost = fmt.Sprintf("cpu %.1fus/request  ", cpu/requests)
		}
		cost += fmt.Sprintf("%.2f cores", cpu/1e6)
	}
	levels := sparkLevels
	if m.ascii {
		levels = sparkASCII
	}
	width := m.width - x - 2 - len(cost)
	if width < 10 {
		cost, width = "", m.width-x
	}
	g.put(x, y, sparkline(m.history, min(width, topHistory), levels), styleGreen)
	g.put(m.width-len(cost), y, cost, stylePlain)
}

// drawRates draws what came of the requests, each a second.
func (m *topModel) drawRates(g *grid, y int) {
	type part struct {
		label, text string
		style       gridStyle
	}
	var parts []part
	width := 0
	for _, r := range []struct{ label, key string }{
		{"grants/s", "grants"}, {"refused", "refusals"}, {"waits", "waits"}, {"timeouts", "timeouts"}, {"orphans", "orphans"},
		{"rates", "rates_allowed"}, {"limited", "rates_limited"},
	} {
		if _, told := m.pic.numbers[r.key]; !told {
			continue
		}
		rate, known := m.rate(r.key)
		p := part{r.label, dashIf(!known, perSecond(rate)), stylePlain}
		if rate > 0 && (r.key == "orphans" || r.key == "timeouts") {
			p.style = styleBold
		}
		parts = append(parts, p)
		width += len(p.label) + 1 + len(p.text) + 2
	}
	gap := 2
	if width-2 > m.width {
		gap = 1
	}
	x := 0
	for _, p := range parts {
		if x+len(p.label)+1+len(p.text) > m.width {
			break
		}
		x = g.put(x, y, p.label+" ", styleDim)
		x = g.put(x, y, p.text, p.style) + gap
	}
}

// drawBounds draws how near the server is to its bounds.
func (m *topModel) drawBounds(g *grid, y int) {
	n := m.pic.numbers
	levels := barLevels
	if m.ascii {
		levels = barASCII
	}
	type bound struct {
		label       string
		used, limit int64
		spell       func(float64) string
	}
	var bounds []bound
	for _, b := range []struct {
		label, used, limit string
		spell              func(float64) string
	}{
		{"locks", "entries", "max_entries", short}, {"waiters", "waiters", "max_waiters", short},
		{"conns", "connections", "max_connections", short}, {"mem", "memory", "max_memory", shortBytes},
	} {
		if used, told := n[b.used]; told {
			bounds = append(bounds, bound{b.label, used, n[b.limit], b.spell})
		}
	}
	if len(bounds) == 0 {
		return
	}
	each := (m.width + 1) / len(bounds)
	for i, b := range bounds {
		x := i * each
		text := b.spell(float64(b.used))
		if b.limit > 0 {
			text += "/" + b.spell(float64(b.limit))
		}
		x = g.put(x, y, b.label+" ", styleDim)
		x = g.put(x, y, text, stylePlain)
		room := i*each + each - 1 - x - 1
		if b.limit <= 0 || room < 2 {
			continue
		}
		style := styleGreen
		if b.used*10 >= b.limit*9 {
			style = styleRed | styleBold
		}
		g.put(x+1, y, bar(b.used, b.limit, min(room, 20), levels), style)
	}
}

// drawTabs draws which list it is, or what of.
func (m *topModel) drawTabs(g *grid, y int) int {
	x := 0
	for v := range views {
		style := stylePlain
		if v == m.view {
			style = styleReverse | styleBold
		}
		x = g.put(x, y, fmt.Sprintf(" %d %v ", v+1, v), style)
	}
	page := m.page()
	if page.kind != pageList {
		return y + 1
	}
	sorted := m.order().label
	if m.turned[m.view] {
		sorted += ", turned round"
	}
	text := ""
	if m.filter != "" || m.typing {
		text = "/" + legible(m.filter)
		if m.filter == "" {
			text = "/"
		}
		text += "  "
	}
	m.firstFitting(g, x+2, y, m.width-x-2, stylePlain, text+sorted, text)
	return y + 1
}

// columns are those of the page.
func (m *topModel) columns() []topColumn {
	switch m.page().kind {
	case pageLock:
		return entryColumns
	case pageClient:
		return lockColumns
	}
	return [views][]topColumn{lockColumns, clientColumns, lossColumns}[m.view]
}

func (m *topModel) drawList(g *grid, y int) {
	page := m.page()
	switch page.kind {
	case pageLock:
		y = m.drawLock(g, y)
	case pageClient:
		y = m.drawClient(g, y)
	}
	columns := m.columns()
	widths := fitted(columns, m.width)
	m.drawTitles(g, y, columns, widths)
	rows := m.rows()
	room := m.room()
	m.choose(page, rows, page.row)
	for i := range min(room, len(rows)-page.offset) {
		row, x := rows[page.offset+i], 0
		style := stylePlain
		if page.offset+i == page.row {
			style = styleReverse
		}
		for c, width := range widths {
			if width > 0 {
				g.put(x, y+1+i, pad(row.cells[c], width, columns[c].right, m.ellipsis()), style)
				x += width + 1
			}
		}
		g.fill(0, y+1+i, style)
	}
	if len(rows) == 0 && room > 0 {
		g.put(0, y+1, shorten(m.nothing(), m.width, m.ellipsis()), stylePlain)
	}
	if page.kind == pageLock && m.height >= 16 {
		m.drawLosses(g, y+1+room)
	}
}

func (m *topModel) drawTitles(g *grid, y int, columns []topColumn, widths []int) {
	x, sorted := 0, ""
	if m.page().kind == pageList {
		sorted = m.order().column
	}
	for c, width := range widths {
		if width == 0 {
			continue
		}
		title, style := columns[c].title, styleReverse
		if title == sorted {
			style |= styleBold
		}
		g.put(x, y, pad(title, width, columns[c].right, m.ellipsis()), style)
		x += width + 1
	}
	g.fill(0, y, styleReverse)
}

// nothing says why a list is empty.
func (m *topModel) nothing() string {
	page := m.page()
	if m.pic == nil || !page.answered && m.lost == nil {
		return "asking ..."
	}
	p := m.pic
	switch {
	case page.kind == pageLock && p.entriesErr != nil:
		return m.refusal(p.entriesErr)
	case page.kind == pageLock:
		return "nobody holds it, nobody waits for it"
	case page.kind == pageClient && p.mineErr != nil:
		return m.refusal(p.mineErr)
	case page.kind == pageClient:
		return "none of its locks is among the first " + short(topMost)
	case p.want.view == m.view && p.listErr != nil:
		return m.refusal(p.listErr)
	case m.filter != "" && m.view == viewClients:
		return "no such client among the first " + short(topMost)
	case m.filter != "" && strings.HasPrefix(m.filter, "h:"):
		return "nobody like that among the first " + short(topMost)
	case m.filter != "":
		return fmt.Sprintf("no such name among the first %s; Enter opens the lock of this name", short(topMost))
	case m.view == viewLosses:
		return "nothing was lost"
	case m.view == viewClients:
		return "there is no client"
	}
	return "no lock is held"
}

// refusal says why a server does not tell.
func (m *topModel) refusal(err error) string {
	switch {
	case errors.Is(err, client.ErrDisabled):
		return "not told: the server was started with --disable-dump"
	case errors.Is(err, client.ErrNotAllowed):
		return "not told to this client: it takes a token of role read or admin"
	case errors.Is(err, client.ErrUnsupported):
		return "this server is too old to tell"
	}
	return legible(plainly(err, m.interval).Error())
}

func kickRefused(err error) string {
	switch {
	case errors.Is(err, client.ErrNoSuchClient):
		return "it is not there any more"
	case errors.Is(err, client.ErrNotAllowed):
		return "only for admins or, where the server asks nobody who they are, on its own machine"
	case errors.Is(err, client.ErrNoKick):
		return "the server is too old to end clients"
	}
	return legible(plainly(err, 0).Error())
}

// drawLock draws what there is to say of a lock above its list.
func (m *topModel) drawLock(g *grid, y int) int {
	page := m.page()
	holders, waiting, rate := 0, 0, ""
	if m.pic != nil {
		for _, e := range m.pic.entries {
			switch {
			case e.Kind == client.KindRate:
				rate = fmt.Sprintf("  rate: %d open, all %s", e.Count, sinceOf(e))
			case e.State == client.StateWaits:
				waiting++
			default:
				holders++
			}
		}
	}
	text := fmt.Sprintf("  held by %d, %d wait%s", holders, waiting, rate)
	name := "lock " + shorten(legible(page.name), max(m.width-5-widthOf(text), 10), m.ellipsis())
	x := g.put(0, y, name, styleBold)
	g.put(x, y, text, stylePlain)
	return y + 1
}

// drawLosses draws the last losses of a lock below its list.
func (m *topModel) drawLosses(g *grid, y int) {
	g.put(0, y, "Last losses", styleBold)
	if m.pic == nil {
		return
	}
	switch {
	case m.pic.lossesErr != nil:
		g.put(0, y+1, shorten(m.refusal(m.pic.lossesErr), m.width, m.ellipsis()), stylePlain)
		return
	case len(m.pic.lossesOf) == 0:
		g.put(0, y+1, "none", stylePlain)
		return
	}
	columns := slices.Clone(lossColumns)
	columns[1] = topColumn{title: "NAME", from: 1 << 30} // it is the lock's
	widths := fitted(columns, m.width)
	y++
	m.drawTitles(g, y, columns, widths)
	for i, row := range lossRows(m.pic.lossesOf[:min(len(m.pic.lossesOf), m.lossLines())], m.now.Sub(m.pic.at)) {
		x := 0
		for c, width := range widths {
			if width > 0 {
				g.put(x, y+1+i, pad(row.cells[c], width, columns[c].right, m.ellipsis()), stylePlain)
				x += width + 1
			}
		}
	}
}

// drawClient draws what there is to say of a client above its locks.
func (m *topModel) drawClient(g *grid, y int) int {
	addr := "client " + legible(m.page().name)
	texts := []string{addr}
	if m.pic != nil {
		if c := clientOf(m.pic, m.page().name); c != nil {
			does := fmt.Sprintf("  for %s  %s, %s", lasting(c.Age), counted(c.Locks, "lock", "locks"), counted(c.Waits, "wait", "waits"))
			texts = []string{addr + does, addr}
			if c.Registered != "" {
				texts = append([]string{addr + "  " + legible(c.Registered) + does}, texts...)
			}
			if c.Identity != "" {
				texts = append([]string{strings.TrimSuffix(texts[0], does) + "  is " + legible(c.Identity) + does}, texts...)
			}
		}
	}
	m.firstFitting(g, 0, y, m.width, styleBold, texts...)
	return y + 1
}

func (m *topModel) drawHelp(g *grid, y int) {
	g.put(0, y, "Keys", styleBold)
	left := 0
	for _, line := range topHelp {
		left = max(left, len(line[0]))
	}
	for i, line := range topHelp[m.helpAt:min(m.helpAt+m.helpRoom(), len(topHelp))] {
		g.put(0, y+1+i, line[0], styleBold)
		g.put(left+2, y+1+i, shorten(line[1], max(m.width-left-2, 0), m.ellipsis()), stylePlain)
	}
}

// drawQuestion asks whether to end a client, and says what will be lost.
func (m *topModel) drawQuestion(g *grid, y int) {
	a := m.asks
	x := g.put(0, y, "End client ", styleBold)
	g.put(x, y, shorten(legible(a.addr)+"?", max(m.width-x, 0), m.ellipsis()), styleBold|styleRed)
	y++
	line := func(text string, style gridStyle) {
		if y < m.height-1 {
			g.put(0, y, shorten(text, m.width, m.ellipsis()), style)
			y++
		}
	}
	if a.known == nil {
		line("asking what it holds ...", stylePlain)
		return
	}
	all := locksOf(a.known, a.addr)
	c := clientOf(a.known, a.addr)
	if c != nil && c.Registered != "" {
		line("It is "+legible(c.Registered)+".", stylePlain)
	}
	if connectionOf(a.addr) != a.addr {
		line("All owners on its connection may end with it.", stylePlain)
	}
	switch {
	case a.known.mineErr != nil:
		line("What it holds is "+m.refusal(a.known.mineErr)+".", stylePlain)
	case c != nil && c.Locks == 0 && c.Waits == 0:
		line("It holds nothing and waits for nothing.", stylePlain)
	case c != nil:
		var parts []string
		if c.Locks > 0 {
			parts = append(parts, counted(c.Locks, "lock", "locks"))
		}
		if c.Waits > 0 {
			parts = append(parts, counted(c.Waits, "place in line", "places in line"))
		}
		line("It loses "+strings.Join(parts, " and ")+":", styleBold)
	case len(all) == 0:
		line("What it holds is not among the first "+short(topMost)+" locks.", stylePlain)
	default:
		line("It loses these locks, and perhaps others:", styleBold)
	}
	if a.waits != "" {
		line("  its wait for "+legible(a.waits), stylePlain)
	}
	room := max(m.height-1-y, 0)
	for i, l := range all {
		if i == room-1 && len(all) > room || i >= room {
			line(fmt.Sprintf("... and %s more", short(float64(len(all)-i))), stylePlain)
			break
		}
		text := fmt.Sprintf("  %s  held for %s", kindCell(l.Kind), heldCell(l))
		line("  "+shorten(legible(l.Name), max(m.width-2-len(text), 8), m.ellipsis())+text, stylePlain)
	}
	if c != nil && c.Locks > len(all) && len(all) > 0 {
		line(fmt.Sprintf("  and %s that are not among the first %s", short(float64(c.Locks-len(all))), short(topMost)), stylePlain)
	}
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return short(float64(n)) + " " + more
}

func (m *topModel) drawFoot(g *grid) {
	y := m.height - 1
	switch {
	case m.asks != nil && m.asks.known != nil:
		m.firstFitting(g, 0, y, m.width, styleBold, "y ends it, any other key does not", "y: end it")
	case m.asks != nil:
		g.put(0, y, "any key: no", styleBold)
	case m.typing:
		x := g.put(0, y, "filter: ", styleBold)
		shown := ""
		if m.filter != "" {
			shown = ends(legible(m.filter), max(m.width-x-1, 0), true)
		}
		g.x, g.y, g.cursor = g.put(x, y, shown, stylePlain), y, true
	case m.help:
		text := "any key goes back"
		if m.helpRoom() < len(topHelp) {
			text = "Up and Down for more, others go back"
		}
		g.put(0, y, shorten(text, m.width, m.ellipsis()), styleBold)
	case m.notice != "":
		g.put(0, y, shorten(m.notice, m.width, m.ellipsis()), styleBold)
	case m.lost != nil:
		m.firstFitting(g, 0, y, m.width, styleRed|styleBold, fmt.Sprintf("the server is away since %s: %s", m.since.Format(time.TimeOnly), m.whyLost()),
			"away: "+m.whyLost())
	case len(m.pages) > 0:
		m.firstFitting(g, 0, y, m.width, styleDim, "Esc goes back  Enter opens  K kicks  ? help  q quits", "Esc back  K kick  ? help")
	default:
		m.firstFitting(g, 0, y, m.width, styleDim, "? help  / filter  s sort  r turn  Enter open  K kick  p pause  q quit",
			"? help  / filter  s sort  K kick  q quit", "? help  q quit")
	}
}

func (m *topModel) whyLost() string { return legible(plainly(m.lost, topPatience).Error()) }

func dashIf(unknownYet bool, text string) string {
	if unknownYet {
		return unknown
	}
	return text
}
