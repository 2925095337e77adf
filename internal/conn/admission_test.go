package conn

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// Who is turned away is counted; the log says so once a minute.
func TestWarnsOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	cfg := testConfig()
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	h := NewServer(cfg)
	defer h.Drain(t.Context())
	began := time.Now()
	for i, want := range []int{1, 1, 1, 2, 2} {
		h.warnFull(began.Add(time.Duration(i) * 25 * time.Second))
		if n := strings.Count(log.String(), "too many connections"); n != want {
			t.Errorf("after %d s the log has %d lines, want %d", 25*i, n, want)
		}
	}
}
