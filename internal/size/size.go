// Package size reads and writes numbers of bytes as people do: 512MiB, 1.5G, 65536.
package size

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var units = []struct {
	name  string
	bytes int64
}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

// Parse reads a size. K, M, G and T are powers of 1024; iB or B may follow them.
func Parse(text string) (int64, error) {
	number, bytes := strings.ToUpper(text), int64(1)
	if without, ok := strings.CutSuffix(number, "B"); ok {
		number = strings.TrimSuffix(without, "I")
	}
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, bytes = n, u.bytes
			break
		}
	}
	number = strings.TrimSpace(number)
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || number == "" || strings.Trim(number, "0123456789.") != "" { // no NaN, no 0x1p4
		return 0, fmt.Errorf("%q is no size, such as 512MiB or 2GiB", text)
	}
	if n*float64(bytes) >= math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is too large: it must be less than %s", text, Format(math.MaxInt64/2+1))
	}
	return int64(n * float64(bytes)), nil
}

// Format writes a size, about.
func Format(n int64) string {
	digits := func(n, unit int64) int {
		if n >= 10*unit || n%unit == 0 {
			return 0
		}
		return 1
	}
	for _, u := range units {
		if n >= u.bytes {
			return fmt.Sprintf("%.*f %siB", digits(n, u.bytes), float64(n)/float64(u.bytes), u.name)
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
