package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

var durationType = reflect.TypeFor[time.Duration]()

// parseTime reads a time as Go writes it, or as sleep and timeout take it, in
// plain seconds. A number without a unit behind others that have one, as in
// 1h30, could be meant as either.
func parseTime(text string) (time.Duration, error) {
	spelled := text
	if strings.Trim(text, "0123456789.") == "" {
		spelled += "s"
	}
	d, err := time.ParseDuration(spelled)
	if err != nil || strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is no time such as 30s, 5m, 1h30m, or 30 or 0.5 for seconds", text)
	}
	return d, nil
}

// decodeTime is decodeNumber for times.
func decodeTime(ctx *kong.DecodeContext, target reflect.Value) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	if text == "" {
		return errEmpty
	}
	d, err := parseTime(text)
	if err != nil {
		return err
	}
	if d == 0 && ctx.Value.Tag.Get("min") != "0" {
		return fmt.Errorf("must be above 0, not %s: leave it out for the default", text)
	}
	target.SetInt(int64(d))
	return nil
}
