package main

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/alecthomas/kong"
)

// Numbers and times are bounded where they are read, whatever command they
// belong to: a flag of any numeric type is at least 1 (a time and a fraction:
// above 0) unless its tag `min` says otherwise, and at most its tag `max`. So 0
// is no other word for "not given", which it is to the packages behind.

// numeric has kong read all numbers and times that way.
func numeric() (options []kong.Option) {
	for _, kind := range []reflect.Kind{
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64,
	} {
		options = append(options, kong.KindMapper(kind, kong.MapperFunc(decodeNumber)))
	}
	return append(options, kong.TypeMapper(durationType, kong.MapperFunc(decodeTime)))
}

func decodeNumber(ctx *kong.DecodeContext, target reflect.Value) error {
	text, err := pop(ctx)
	if err != nil {
		return err
	}
	if text == "" {
		return errEmpty
	}
	least, most, want := bounds(ctx.Value.Tag, target.CanFloat())
	n, err := setNumber(target, text)
	switch {
	case errors.Is(err, strconv.ErrRange) || math.IsInf(n, 0):
		return fmt.Errorf("must be %s: %s is out of range", want, text)
	case err != nil && target.CanFloat(), math.IsNaN(n):
		return fmt.Errorf("must be a number, %s, not %q", want, text)
	case err != nil:
		return fmt.Errorf("must be a whole number, %s, not %q", want, text)
	case n == 0 && least > 0:
		return fmt.Errorf("must be %s, not %s: leave it out for the default", want, text)
	case n < least || n > most:
		return fmt.Errorf("must be %s, not %s", want, text)
	}
	return nil
}

// bounds returns what a number may be, and that in words.
func bounds(tag *kong.Tag, fraction bool) (least, most float64, want string) {
	least, most, want = 1, math.Inf(1), "at least 1"
	switch {
	case tag.Has("min"):
		least, _ = tag.GetFloat("min")
		want = "at least " + tag.Get("min")
	case fraction:
		least, want = math.SmallestNonzeroFloat64, "above 0"
	}
	if tag.Has("max") {
		most, _ = tag.GetFloat("max")
		want += " and at most " + tag.Get("max")
	}
	return least, most, want
}

// setNumber reads a number into whatever type of number that is.
func setNumber(to reflect.Value, text string) (float64, error) {
	bits := to.Type().Bits()
	switch {
	case to.CanFloat():
		n, err := strconv.ParseFloat(text, bits)
		to.SetFloat(n)
		return n, err
	case to.CanInt():
		n, err := strconv.ParseInt(text, 10, bits)
		to.SetInt(n)
		return float64(n), err
	case text[0] == '-': // which is a number, though out of bounds
		return strconv.ParseFloat(text, 64)
	}
	n, err := strconv.ParseUint(text, 10, bits)
	to.SetUint(n)
	return float64(n), err
}
