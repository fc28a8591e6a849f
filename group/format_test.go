package group

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
)

// bindings ties each row of the tables in docs/FORMAT.md to the code.
var bindings = []struct {
	table, field, column string
	want                 int
}{
	{"group identity", "magic", "offset", grpMagic},
	{"group identity", "version", "offset", grpVersion},
	{"group identity", "version", "value", version},
	{"group identity", "checksum algorithm", "offset", grpAlgorithm},
	{"group identity", "incompatible features", "offset", grpIncompatible},
	{"group identity", "read-only features", "offset", grpReadCompat},
	{"group identity", "compatible features", "offset", grpCompatible},
	{"group identity", "queue", "offset", grpQueue},
	{"group identity", "created", "offset", grpCreated},
	{"group identity", "entries", "offset", grpEntries},
	{"group identity", "topic length", "offset", grpTopicLength},
	{"group identity", "topic", "offset", grpTopic},
	{"group identity", "topic", "size", maxTopic},
	{"group identity", "checksum", "offset", grpChecksum},
	{"group settings record", "generation", "offset", recGeneration},
	{"group settings record", "lease", "offset", setLease},
	{"group settings record", "max deliver", "offset", setMaxDeliver},
	{"group settings record", "max deaths", "offset", setMaxDeaths},
	{"group settings record", "flags", "offset", setFlags},
	{"group settings record", "back-offs", "offset", setBackOffs},
	{"group settings record", "back-off", "offset", setBackOff},
	{"group settings record", "back-off", "size", 8 * maxBackOffs},
	{"group settings record", "path length", "offset", setDeadLetterBytes},
	{"group settings record", "dead letters", "offset", setDeadLetter},
	{"group settings record", "dead letters", "size", maxDeadLetter},
	{"group settings record", "checksum", "offset", setChecksum},
	{"group base record", "generation", "offset", recGeneration},
	{"group base record", "ordinal", "offset", basOrdinal},
	{"group base record", "sequence", "offset", basSeq},
	{"group base record", "epoch", "offset", basEpoch},
	{"group base record", "boot id", "offset", basBoot},
	{"group base record", "checksum", "offset", recChecksum},
	{"group checkpoint record", "generation", "offset", recGeneration},
	{"group checkpoint record", "sequence", "offset", chkSeq},
	{"group checkpoint record", "base", "offset", chkBase},
	{"group checkpoint record", "checksum", "offset", recChecksum},
	{"group shared words", "floor", "offset", grpFloor},
	{"group shared words", "passed", "offset", grpPassed},
	{"group shared words", "generation", "offset", grpGeneration},
	{"group shared words", "retry", "offset", grpRetry},
	{"group shared words", "finished", "offset", grpFinished},
	{"group shared words", "redelivered", "offset", grpRedelivered},
	{"group shared words", "dead-lettered", "offset", grpDeadLettered},
	{"group shared words", "paused", "offset", grpPaused},
	{"group shared words", "delays", "offset", grpDelays},
	{"group shared words", "wanted", "offset", grpWanted},
	{"group shared words", "freed", "offset", grpFreed},
	{"group entry", "word", "offset", entryWord},
	{"group entry", "sequence", "offset", entrySeq},
	{"group entry", "time", "offset", entryTime},
	{"group entry", "mark", "offset", entryMark},
	{"group word", "state", "bits", 0},
	{"group word", "slot", "bits", slotShift},
	{"group word", "deliveries", "bits", deliveriesShift},
	{"group word", "deaths", "bits", deathsShift},
	{"group word", "incarnation", "bits", incarnationShift},
	{"group word", "lap", "bits", lapShift},
	{"group lock bytes", "base", "byte", lockBase},
	{"group lock bytes", "checkpoint", "byte", lockCheckpoint},
	{"group lock bytes", "delays", "byte", lockDelays},
	{"delay identity", "magic", "offset", grpMagic},
	{"delay identity", "version", "offset", grpVersion},
	{"delay identity", "version", "value", version},
	{"delay identity", "checksum algorithm", "offset", grpAlgorithm},
	{"delay identity", "incompatible features", "offset", grpIncompatible},
	{"delay identity", "read-only features", "offset", grpReadCompat},
	{"delay identity", "compatible features", "offset", grpCompatible},
	{"delay identity", "queue", "offset", grpQueue},
	{"delay identity", "created", "offset", grpCreated},
	{"delay identity", "blocks", "offset", dlyBlocksAtMost},
	{"delay identity", "checksum", "offset", dlyChecksum},
	{"delay shared words", "blocks", "offset", dlyBlocks},
	{"delay shared words", "suspect", "offset", dlySuspect},
	{"delay shared words", "changes", "offset", dlyChanges},
	{"delay shared words", "clock", "offset", dlyOffset},
	{"delay shared words", "forget", "offset", dlyForget},
	{"delay summary", "bound", "offset", sumBound},
	{"delay summary", "room", "offset", sumRoom},
	{"delay cell", "word", "offset", cellWord},
	{"delay cell", "sequence", "offset", cellSeq},
	{"delay cell", "time", "offset", cellTime},
	{"delay cell", "check", "offset", cellCheck},
	{"delay lock bytes", "grow", "byte", lockGrow},
}

func TestTheDocumentSaysWhatTheCodeDoes(t *testing.T) {
	tables := testx.Tables(testx.FormatDocument(t))
	rows, bound := map[string]map[string]string{}, map[string]bool{}
	for table, all := range tables {
		for _, row := range all {
			field := row["field"]
			if field == "" {
				field, _, _ = strings.Cut(row["lock"], ":")
			}
			rows[table+"/"+field] = row
		}
	}
	for _, b := range bindings {
		key := b.table + "/" + b.field
		bound[key] = true
		got, _, _ := strings.Cut(rows[key][b.column], "-")
		if want := fmt.Sprint(b.want); got != want {
			t.Errorf("%s: the document says %s %q, the code %s", key, b.column, got, want)
		}
	}
	for key := range rows {
		if (strings.HasPrefix(key, "group ") || strings.HasPrefix(key, "delay ")) && !bound[key] {
			t.Errorf("%s: nothing in the code is tied to it", key)
		}
	}
	if sum := slotBits + deliveriesBits + deathsBits + incarnationBits + lapBits + stateBits; sum != 64 {
		t.Errorf("a word has %d bits", sum)
	}
	if dlySummaries != 8192 || summaryBytes != 16 || cellBytes != 32 || cellsPerBlock != 512 || MaxDelayBlocks != 8192 ||
		boundBits != 40 || roomBits != 16 || entryBits != 20 {
		t.Error("the areas of a delay file are others than the document says")
	}
	if grpRing != 12288 || entryBytes != 32 || grpSettings != 4096 || grpBase != 6144 || grpCheckpoint != 7168 {
		t.Error("the areas lie elsewhere than the document says")
	}
}

// An old version must refuse what it would hand out in the wrong order.
func TestAGroupThatIsOrderedByKeyHasAFeatureBit(t *testing.T) {
	id := goldenIdentity()
	page := make([]byte, identityBytes)
	encodeIdentity(page, id)
	if page[grpIncompatible] != 0 {
		t.Errorf("another group has features %#x", page[grpIncompatible])
	}
	id.ByKey = true
	encodeIdentity(page, id)
	if got, err := decodeIdentity(page); err != nil || got != id || page[grpIncompatible] != featureByKey {
		t.Errorf("got %+v, %v, features %#x, want %+v", got, err, page[grpIncompatible], id)
	}
}

func goldenIdentity() Identity {
	return Identity{Queue: [16]byte{0: 1, 15: 0xff}, Created: 1_700_000_000_000_000_000, Entries: 64, Topic: "orders.*"}
}

func TestEachFieldOfTheIdentityHasItsOwnError(t *testing.T) {
	for _, c := range []struct {
		off     int
		value   byte
		because string
	}{
		{grpMagic, 'x', "magic"},
		{grpVersion, 2, "newer version"},
		{grpVersion, 0, "version 0"},
		{grpAlgorithm, 2, "checksum algorithm 2"},
		{grpIncompatible, 2, "features 0x2"},
		{grpIncompatible + 7, 0x81, "features 0x81"},
		{grpReadCompat, 1, "features 0x1"},
		{grpEntries, 3, "ring of 3"},
		{grpEntries + 3, 1, "a ring of"},
		{grpTopicLength + 1, 1, "a topic of"},
	} {
		page := make([]byte, identityBytes)
		encodeIdentity(page, goldenIdentity())
		if id, err := decodeIdentity(page); err != nil || id != goldenIdentity() {
			t.Fatalf("got %+v, %v", id, err)
		}
		page[c.off] = c.value
		if _, err := decodeIdentity(page); err == nil {
			t.Errorf("offset %d: a wrong checksum is not noticed", c.off)
		}
		sum := crc32c.Update(0, page[:grpChecksum])
		for i := range 4 {
			page[grpChecksum+i] = byte(sum >> (8 * i))
		}
		if _, err := decodeIdentity(page); err == nil || !strings.Contains(err.Error(), c.because) {
			t.Errorf("offset %d: got %v, want an error about %q", c.off, err, c.because)
		}
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	s := Settings{
		Lease: time.Minute, MaxDeliver: 5, MaxDeaths: 3, MayLose: true,
		BackOff: []time.Duration{0, time.Second}, DeadLetter: "/var/lib/dead",
	}
	rec := make([]byte, settingsBytes)
	encodeSettings(rec, 3, s)
	if got, err := decodeSettings(rec); err != nil || fmt.Sprint(got) != fmt.Sprint(s) {
		t.Errorf("settings: got %+v, %v", got, err)
	}
	b := Base{Generation: 7, Ordinal: 128, Seq: 1 << 33, Epoch: 4, Boot: [16]byte{3: 9}}
	both := make([]byte, 2*recordSpacing)
	encodeBase(both, b)
	b2 := b
	b2.Generation, b2.Seq = 8, 5
	encodeBase(both[recordSpacing:], b2)
	got, generation, next, err := newestRecord(both, recordBytes, recordSpacing)
	if err != nil || generation != 8 || decodeBase(got) != b2 || &next[0] != &both[0] {
		t.Errorf("base: got %+v, generation %d, %v", decodeBase(got), generation, err)
	}
	both[recordSpacing+basSeq]++ // torn
	if got, _, next, err = newestRecord(both, recordBytes, recordSpacing); err != nil || decodeBase(got) != b || &next[0] != &both[recordSpacing] {
		t.Errorf("base: got %+v, %v, want the other record", decodeBase(got), err)
	}
	clear(both)
	if _, _, _, err := newestRecord(both, recordBytes, recordSpacing); !errors.Is(err, errNoRecords) {
		t.Errorf("got %v", err)
	}
	encodeCheckpoint(both, 1, 99, 7)
	if seq, base := decodeCheckpoint(both); seq != 99 || base != 7 {
		t.Errorf("checkpoint: got %d, %d", seq, base)
	}
	if bytes.Equal(both[:recordBytes], make([]byte, recordBytes)) {
		t.Error("nothing was written")
	}
}

func TestAWordSaysWhatWasPutIntoIt(t *testing.T) {
	o := Owner{Slot: 1023, Incarnation: 0x1ff}
	w := makeWord(Leased, 1<<lapBits-1, o, 4095, 63)
	if w.State() != Leased || w.Slot() != 1023 || w.Deliveries() != 4095 || w.Deaths() != 63 || w.lap() != 1<<lapBits-1 || !w.OwnedBy(o) {
		t.Errorf("got %v", w)
	}
	if next := w.sentBack(Ready, true); next.Deaths() != 63 || next.Deliveries() != 4095 || next.State() != Ready || next.Slot() != 0 || next.lap() != w.lap() {
		t.Errorf("got %v", next)
	}
	if next := w.leased(o); next == w || next.Deliveries() != 2048 {
		t.Errorf("got %v, want another number of deliveries", next)
	}
	if w.OwnedBy(Owner{1023, 0x3fe}) || w.OwnedBy(Owner{1022, 0x1ff}) {
		t.Error("another's")
	}
	tag, ms := timeOf(makeTime(w.tag()|dueBit, 1234))
	if tag != w.tag()|dueBit || ms != 1234 {
		t.Errorf("got %x, %d", tag, ms)
	}
	if finishedWord(0) != 0 {
		t.Error("a new ring is not full of finished entries")
	}
}
