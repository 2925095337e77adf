package httprate

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
)

// FuzzRequest: what is read of any request is within the bounds, or is refused with a reason
// that is the client's; and what was read asks for the same when it is written down.
func FuzzRequest(f *testing.F) {
	bounds := session.RateBounds{MaxLimit: 1<<32 - 2, MaxWindow: 24 * time.Hour, MaxLine: 64}
	h := New(Config{Bounds: bounds})
	f.Add("/api/v1/rates/login:192.0.2.7/take", "limit=5&window=1m&denied=403", "", "")
	f.Add("/api/v1/rates/a%2Fb/c/take", "limit=5&window=1m", "", "")
	f.Add("/api/v1/rates/take", "name=key:&by=X-Key&limit=4294967294&window=24h&cost=4294967294&policy=a.b", "", "k e\ty")
	f.Add("/api/v1/rates/n/take", "", `{"limit": 5, "window": "500ms", "cost": 0}`, "")
	f.Add("/api/v1/rates/n/take", "limit=5", `{"window": "1ms"}`, "")
	f.Fuzz(func(t *testing.T, path, query, body, key string) {
		raw, ok := rateOf(path)
		if !ok {
			return
		}
		read := func(raw *string, query, body string) (*ask, error) {
			r := &http.Request{Method: http.MethodPost, URL: &url.URL{RawQuery: query}, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
			if key != "" {
				r.Header.Set("X-Key", key)
			}
			return h.read(httptest.NewRecorder(), r, raw)
		}
		a, err := read(raw, query, body)
		if err != nil {
			var no *refusal
			if !errors.As(err, &no) || no.status != http.StatusBadRequest && no.status != http.StatusRequestEntityTooLarge || no.text == "" {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		window := time.Duration(a.rate.Window)
		if a.name == "" || len(a.name) > bounds.MaxLine || strings.ContainsAny(a.name, "\n\r") || a.cost > a.rate.Limit || a.rate.Limit < 1 ||
			window < time.Millisecond || window > bounds.MaxWindow || window%time.Millisecond != 0 || !isPolicy(a.policy) || a.denied != 403 && a.denied != 429 {
			t.Fatalf("%+v", a)
		}
		again := url.Values{nameWord: {a.name}, windowWord: {window.String()}, policyWord: {a.policy}}
		for word, n := range map[string]uint64{limitWord: uint64(a.rate.Limit), costWord: uint64(a.cost), deniedWord: uint64(a.denied)} {
			again.Set(word, strconv.FormatUint(n, 10))
		}
		if b, err := read(nil, again.Encode(), ""); err != nil || *b != *a {
			t.Fatalf("%+v is %+v the second time, %v", a, b, err)
		}
	})
}
