package main

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nylen/lockd/internal/wire"
)

// zeroIsMeant are the flags whose 0 says something, and what.
var zeroIsMeant = map[string]string{
	"serve --drain-timeout":    "cut clients off at once",
	"serve --drain-delay":      "drain at once",
	"serve --max-keep":         "keep nobody",
	"proxy --drain-timeout":    "cut clients off at once",
	"proxy --drain-delay":      "drain at once",
	"run --wait":               "try once",
	"run --kill-after":         "KILL at once",
	"run --conflict-exit-code": "success",
	"bench --warmup":           "none",
}

// numericFlags are all flags and arguments of all commands that are numbers or
// times, found by their types.
func numericFlags(t *testing.T) map[string]*kong.Value {
	t.Helper()
	all := make(map[string]*kong.Value)
	for _, command := range parser(&cli{}).Model.Children {
		values := append([]*kong.Value{}, command.Positional...)
		for _, flag := range command.Flags {
			values = append(values, flag.Value)
		}
		for _, v := range values {
			typ := v.Target.Type()
			for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if k := typ.Kind(); reflect.Int <= k && k <= reflect.Float64 || typ == reflect.TypeFor[rate]() {
				all[command.Name+" "+v.ShortSummary()] = v
			}
		}
	}
	if len(all) < 30 {
		t.Fatalf("found only %d", len(all))
	}
	return all
}

// decode has kong read a value, with an environment variable's text as well
// as with an argument's.
func decode(v *kong.Value, text string) error {
	asFlag := v.Parse(kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: text}), reflect.New(v.Target.Type()).Elem())
	asArgument := v.Parse(kong.Scan(text), reflect.New(v.Target.Type()).Elem())
	if fmt.Sprint(asFlag) != fmt.Sprint(asArgument) {
		return fmt.Errorf("%s=%s and %[1]s %[2]s differ: %[3]v, %[4]v", v.ShortSummary(), text, asFlag, asArgument)
	}
	return asFlag
}

// TestNumbersAreBounded finds every numeric flag, so that none is forgotten:
// below 0, 0 where that says nothing, and what is no number are refused with
// one line that tells what to write.
func TestNumbersAreBounded(t *testing.T) {
	found := numericFlags(t)
	for name := range zeroIsMeant {
		if found[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for name, v := range found {
		refused := []string{"-1", "-0.5", "NaN", "Inf", "x", "", "1x", "99999999999999999999999", "1e999"}
		if zeroIsMeant[name] == "" {
			refused = append(refused, "0", "0.0", "-0")
		} else if err := decode(v, "0"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		typ := v.Target.Type()
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ == durationType:
			refused = append(refused, "1h30", "30m5", "1e3", "0x10", "-5s", "9999999h", "99999999999999999s", "soon")
			if zeroIsMeant[name] == "" {
				refused = append(refused, "0s", "0h0m")
			}
		case typ == reflect.TypeFor[rate]():
			refused = append(refused, "10", "0/1s", "-1/1s", "10/", "10/0", "10/-1", "10/25h", "10/1us", "1.5/s", "/s", "10/1h30")
		case typ == reflect.TypeFor[fileMode]():
			refused = append(refused, "000", "888", "01000")
		case typ.Kind() != reflect.Float64:
			refused = append(refused, "1.5", "0x10")
		}
		for _, text := range refused {
			err := decode(v, text)
			if err == nil {
				t.Errorf("%s %q is taken", name, text)
				continue
			}
			told := strings.Contains(err.Error(), "must ") || strings.Contains(err.Error(), " such as ")
			if strings.Contains(err.Error(), "\n") || !told || !strings.HasPrefix(err.Error(), v.ShortSummary()+": ") {
				t.Errorf("%s %q: %v", name, text, err)
			}
		}
		if most, ok := strconv.ParseFloat(v.Tag.Get("max"), 64); ok == nil {
			if err := decode(v, v.Tag.Get("max")); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if err := decode(v, strconv.FormatFloat(most+1, 'f', -1, 64)); err == nil {
				t.Errorf("%s %v is taken", name, most+1)
			}
		}
	}
	if max := found["run --limit"].Tag.Get("max"); max != fmt.Sprint(uint32(wire.MaxLimit)) {
		t.Errorf("run --limit may be %s, and %d in the protocol", max, uint32(wire.MaxLimit))
	}
}

func TestMissingValue(t *testing.T) {
	for name, v := range numericFlags(t) {
		for _, args := range [][]string{nil, {"--shared"}, {"-v"}} {
			err := v.Parse(kong.Scan(args...), reflect.New(v.Target.Type()).Elem())
			if want := ": lacks its value: " + v.Summary(); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%s %q: %v", name, args, err)
			}
		}
	}
}

// TestTimes: seconds without a unit, in flags and in the environment.
func TestTimes(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30": 30 * time.Second, "0.5": 500 * time.Millisecond, ".25": 250 * time.Millisecond, "30s": 30 * time.Second,
		"5m": 5 * time.Minute, "1h30m": 90 * time.Minute, "100ms": 100 * time.Millisecond, "1.5h": 90 * time.Minute,
		"000": 0, "9223372036": 9223372036 * time.Second,
	} {
		if got, err := parseTime(text); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for name, v := range numericFlags(t) {
		if typ := v.Target.Type(); typ != durationType && typ != reflect.PointerTo(durationType) {
			continue
		}
		for _, text := range []string{"30", "0.5", "1h30m"} {
			if err := decode(v, text); err != nil {
				t.Errorf("%s %s: %v", name, text, err)
			}
		}
	}
	t.Setenv("LOCKD_DRAIN_TIMEOUT", "7")
	t.Setenv("LOCKD_CONNECT_TIMEOUT", "0.25")
	var c cli
	if _, err := parser(&c).Parse([]string{"run", "a", "--wait", "2", "--", "b"}); err != nil {
		t.Fatal(err)
	}
	if *c.Run.Wait != 2*time.Second || c.Run.ConnectTimeout != 250*time.Millisecond || c.Serve.DrainTimeout != 7*time.Second {
		t.Errorf("got %v, %v, %v", c.Run.Wait, c.Run.ConnectTimeout, c.Serve.DrainTimeout)
	}
	t.Setenv("LOCKD_CONNECT_TIMEOUT", "0")
	if _, err := parser(&c).Parse([]string{"ping"}); err == nil || !strings.Contains(err.Error(), "LOCKD_CONNECT_TIMEOUT") {
		t.Errorf("LOCKD_CONNECT_TIMEOUT=0: %v", err)
	}
}

func TestRates(t *testing.T) {
	for text, want := range map[string]rate{
		"10/1s": {10, time.Second}, "10/s": {10, time.Second}, "10/m": {10, time.Minute}, "10/h": {10, time.Hour},
		"10/60": {10, time.Minute}, "10/0.5": {10, 500 * time.Millisecond}, "100/24h": {100, 24 * time.Hour},
		"1/ms": {1, time.Millisecond}, "4294967294/1m30s": {math.MaxUint32 - 1, 90 * time.Second},
	} {
		if got, err := parseRate(text); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestEmptyNames: a command that takes a lock's name has the flag for the empty
// one, wherever it stands, and refuses it without.
func TestEmptyNames(t *testing.T) {
	rest := map[string][]string{"run": {"--", "true"}}
	named := 0
	for _, command := range parser(&cli{}).Model.Children {
		for _, v := range command.Positional {
			typ := v.Target.Type()
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if typ != reflect.TypeFor[lockName]() {
				continue
			}
			named++
			for _, name := range []string{"", " ", " \t "} {
				behind := rest[command.Name]
				_, err := parser(&cli{}).Parse(append([]string{command.Name, name}, behind...))
				if err == nil || !strings.Contains(err.Error(), `write --empty-name ""`) {
					t.Errorf("%s %q: %v", command.Name, name, err)
				}
				for _, args := range [][]string{{command.Name, "--empty-name", name}, {command.Name, name, "--empty-name"}} {
					if _, err := parser(&cli{}).Parse(append(args, behind...)); err != nil {
						t.Errorf("%q: %v", args, err)
					}
				}
			}
		}
	}
	if named < 3 {
		t.Errorf("found only %d commands with a name", named)
	}
}
