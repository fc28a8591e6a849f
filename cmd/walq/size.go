package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/walq/walq"
)

// A size is a flag that holds a number of bytes.
type size int64

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}}

func (s *size) Type() string { return "size" }

func (s *size) String() string {
	if *s == 0 {
		return "" // so that help shows no default
	}
	return formatSize(int64(*s))
}

func (s *size) Set(text string) error {
	number, unit := strings.ToUpper(strings.TrimSpace(text)), int64(1)
	if n, ok := strings.CutSuffix(number, "B"); ok {
		number = strings.TrimSuffix(n, "I")
	}
	for _, u := range sizeUnits {
		if n, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = n, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("want bytes, as in 65536, 64K, 64MiB or 1G (K is 1024)")
	}
	*s = size(n * unit)
	return nil
}

// formatSize writes a number of bytes for people.
func formatSize(n int64) string {
	for i := len(sizeUnits) - 1; i >= 0; i-- {
		u := sizeUnits[i]
		if n < u.bytes {
			continue
		}
		if n%u.bytes == 0 {
			return fmt.Sprintf("%d %siB", n/u.bytes, u.suffix)
		}
		return fmt.Sprintf("%.1f %siB", float64(n)/float64(u.bytes), u.suffix)
	}
	return fmt.Sprintf("%d B", n)
}

// An age is a duration that can also be given in days.
type age time.Duration

func (a *age) Type() string { return "duration" }

func (a *age) String() string {
	if *a == 0 {
		return ""
	}
	return formatAge(time.Duration(*a))
}

const day = 24 * time.Hour

func (a *age) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err == nil && n >= 0 && n <= math.MaxInt64/int64(day) {
			*a = age(time.Duration(n) * day)
			return nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("want a duration, as in 90m, 36h or 7d")
	}
	*a = age(d)
	return nil
}

func formatAge(d time.Duration) string {
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}

// durabilityFlag is a flag whose empty value leaves the choice to the queue.
func durabilityFlag() *choice { return choices("", "always", "interval", "never") }

func (c *choice) durability() (d walq.Durability) {
	if c.value != "" {
		if err := d.UnmarshalText([]byte(c.value)); err != nil {
			panic(err) // Set let only these pass
		}
	}
	return d
}
