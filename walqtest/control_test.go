package walqtest

import (
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// The words that damage is done to are where docs/FORMAT.md has them.
func TestTheWordsAreWhereTheFormatHasThem(t *testing.T) {
	tables := testx.Tables(testx.FormatDocument(t))
	for _, c := range []struct {
		table, field string
		offset, size int
	}{
		{"boot record", "generation", recGeneration, 8},
		{"boot record", "boot id", recBootID, 16},
		{"boot record", "clean", recClean, 8},
		{"boot record", "checksum", recChecksum, recordBytes - recChecksum},
		{"control shared words", "durable", offDurable, 8},
		{"control shared words", "durable segment", endDurable - 8, 8},
		{"control shared words", "settled", offSettled, 8},
		{"control shared words", "settled segment", endSettled - 8, 8},
		{"control shared words", "poison", offPoison, 8},
		{"control shared words", "poison time", offPoisonTime, 8},
		{"control shared words", "poison slot", offPoisonSlot, 8},
		{"control shared words", "poison length", offPoisonLength, 8},
		{"control shared words", "poison reason", offPoisonReason, maxPoisonReason},
	} {
		found := false
		for _, row := range tables[c.table] {
			if row["field"] != c.field {
				continue
			}
			found = true
			if row["offset"] != strconv.Itoa(c.offset) || row["size"] != strconv.Itoa(c.size) {
				t.Errorf("%s, %s: got %d with %d bytes, want %s with %s", c.table, c.field, c.offset, c.size, row["offset"], row["size"])
			}
		}
		if !found {
			t.Errorf("%s: there is no %s", c.table, c.field)
		}
	}
	var at []string
	for _, row := range tables["control areas"] {
		if strings.HasPrefix(row["area"], "boot") {
			at = append(at, row["offset"])
		}
	}
	if want := []string{strconv.Itoa(offBoot), strconv.Itoa(offBoot + recordSpacing)}; strings.Join(at, " ") != strings.Join(want, " ") {
		t.Errorf("records of the boot: got %v, want them at %v", want, at)
	}
}
