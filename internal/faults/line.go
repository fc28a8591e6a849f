package faults

import (
	"fmt"
	"hash/crc32"
	"strings"
)

// Line is the n-th line of somebody, whose name has no space in it. Every byte
// follows from the two, so one that is torn shows. Lengths differ; now and then
// one is longer than two pages.
func Line(who string, n int) string {
	head := fmt.Sprintf("%s %d ", who, n)
	pad := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(head)))
	times := 1 + n%97
	if n%50 == 49 {
		times = 1100
	}
	return head + strings.Repeat(pad, times)
}

// ParseLine tells whose line it is and which, or that it is torn.
func ParseLine(line string) (who string, n int, err error) {
	if _, err := fmt.Sscan(line, &who, &n); err != nil || line != Line(who, n) {
		return who, n, fmt.Errorf("torn: %.60q, %d bytes", line, len(line))
	}
	return who, n, nil
}
