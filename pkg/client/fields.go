package client

import (
	"math"
	"strconv"
	"time"
)

// fields are those of a line, one after another. A newer server may send more of
// them.
type fields struct {
	all   []string
	wrong bool // one is not there, or is no number
}

func (f *fields) text() (text string) {
	if len(f.all) == 0 {
		f.wrong = true
		return ""
	}
	text, f.all = f.all[0], f.all[1:]
	return text
}

// optional is a text that is - where there is none.
func (f *fields) optional() string {
	if text := f.text(); text != "-" {
		return text
	}
	return ""
}

// unsigned is a number that may have all of its 64 bits.
func (f *fields) unsigned() uint64 {
	n, err := strconv.ParseUint(f.text(), 10, 64)
	f.wrong = f.wrong || err != nil
	return n
}

func (f *fields) number() int64 {
	n, err := strconv.ParseUint(f.text(), 10, 63)
	f.wrong = f.wrong || err != nil
	return int64(n)
}

func (f *fields) decimal() float64 {
	n, err := strconv.ParseFloat(f.text(), 64)
	f.wrong = f.wrong || err != nil
	return n
}

func (f *fields) duration() time.Duration {
	return time.Duration(min(f.number(), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// rest is what is left.
func (f *fields) rest() []string {
	if len(f.all) == 0 {
		return nil
	}
	return f.all
}
