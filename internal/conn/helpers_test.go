package conn

import (
	"log/slog"
	"testing"

	"github.com/nylen/lockd/internal/session"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func testConfig() Config {
	return Config{
		Session:        session.Config{Shards: 4, MaxLine: 4096, MaxOutput: 64 << 10, MaxSessions: 100},
		MaxMessage:     64 << 10,
		MaxConnections: 1000,
		Logger:         slog.New(slog.DiscardHandler),
	}
}
