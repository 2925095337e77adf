package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// A manager is what has started this process as a service and wants to hear of it:
// systemd, by a unit with Type=notify, or whatever speaks its protocol
// (sd_notify(3)). Where there is none nobody is told anything.
type manager struct {
	log   *slog.Logger
	every time.Duration // how often it wants to hear that all is well; 0: it does not

	failed sync.Once
}

// newManager finds out what the environment says of it, which is for this process
// alone.
func newManager(log *slog.Logger) *manager {
	m := &manager{log: log}
	interval, err := daemon.SdWatchdogEnabled(true)
	if err != nil {
		log.Warn("there is no watchdog: its interval makes no sense", "err", err)
	}
	m.every = interval / 2 // as sd_watchdog_enabled(3) advises
	return m
}

// passedSockets are the listeners that the manager has opened, by name.
func passedSockets() (map[string][]net.Listener, error) { return activation.ListenersWithNames() }

// tellTimeout is how long a manager may take to hear. One that does not must keep
// nobody from stopping: the library's SdNotify would wait for ever.
const tellTimeout = time.Second

func (m *manager) tell(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err == nil {
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(tellTimeout))
		_, err = io.WriteString(c, state)
	}
	if err != nil {
		m.failed.Do(func() { m.log.Warn("cannot tell systemd how the service does", "err", err) })
	}
}

// ready says that the server serves.
func (m *manager) ready(status string) { m.tell(daemon.SdNotifyReady + "\nSTATUS=" + status) }

// reload says that it reads its files again while it does.
func (m *manager) reload(read func()) {
	m.tell(daemon.SdNotifyReloading + "\n" + strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
	read()
	m.tell(daemon.SdNotifyReady)
}

// stopping says that it ends, and within which time.
func (m *manager) stopping(within time.Duration, status string) {
	m.tell(fmt.Sprintf("%s\nSTATUS=%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, status, within.Microseconds()))
}

// watch says again and again that all is well, as long as that is so, until ctx is
// done. It is for who serves to show that he does: a server whose event loop is
// stuck keeps its clients waiting, and its locks held, until somebody ends it.
func (m *manager) watch(ctx context.Context, responds func(context.Context) error) {
	if m.every <= 0 {
		return
	}
	tick := time.NewTicker(m.every)
	defer tick.Stop()
	for {
		soon, stop := context.WithTimeout(ctx, m.every)
		err := responds(soon)
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			m.tell(daemon.SdNotifyWatchdog)
		default:
			m.log.Error("the server does not respond: the watchdog is not told that it is well", "for", m.every)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
