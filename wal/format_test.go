package wal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

var updateGolden = flag.Bool("update", false, "write testdata anew")

// goldenControl is what testdata/v1.ctl.hex holds.
var goldenControl = struct {
	id       identity
	settings Settings
	boot     boot
	durable  Position
	first    uint64
}{
	id: identity{
		queue:   [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
		created: 1_700_000_000_000_000_000,
	},
	settings: Settings{SegmentSize: 1 << 20, MaxBytes: 1 << 33, MaxAge: time.Hour, Durability: SyncInterval, GroupAccess: true},
	boot:     boot{id: [16]byte{15: 1, 0: 0xb0}, epoch: 5, clean: true},
	durable:  makePosition(7, 8192),
	first:    1000,
}

func goldenControlBytes() []byte {
	g := goldenControl
	return encodeControl(g.id, g.settings, g.boot, g.durable, g.first)
}

func readGoldenControl(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1.ctl.hex"))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, controlBytes)
	for line := range strings.Lines(string(text)) {
		at, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		off, err := strconv.ParseInt(at, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(rest)
		if err != nil {
			t.Fatal(err)
		}
		copy(p[off:], b)
	}
	return p
}

func TestTheGoldenControlFileIsMadeAgainByteForByte(t *testing.T) {
	p := goldenControlBytes()
	if *updateGolden {
		var b bytes.Buffer // lines of 16 bytes that are not all zero
		for off := 0; off < len(p); off += 16 {
			if line := p[off : off+16]; len(bytes.Trim(line, "\x00")) > 0 {
				fmt.Fprintf(&b, "%08x %x\n", off, line)
			}
		}
		if err := os.WriteFile(filepath.Join("testdata", "v1.ctl.hex"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := readGoldenControl(t)
	if len(p) != len(want) {
		t.Fatalf("got %d bytes, want %d", len(p), len(want))
	}
	for i := range p {
		if p[i] != want[i] {
			t.Fatalf("at offset %d: got %02x, want %02x; a change of the format needs a new golden file beside this one", i, p[i], want[i])
		}
	}
}

func TestTheGoldenControlFileIsReadFieldByField(t *testing.T) {
	p := readGoldenControl(t)
	id, err := decodeIdentity(p, false)
	if err != nil || id != goldenControl.id {
		t.Errorf("identity: got %+v, %v", id, err)
	}
	rec, generation, next, err := newestRecord(p[ctlSettings:])
	if err != nil || generation != 1 || decodeSettings(rec) != goldenControl.settings {
		t.Errorf("settings: got %+v, generation %d, %v", decodeSettings(rec), generation, err)
	}
	if &next[0] != &p[ctlSettings+recordSpacing] {
		t.Error("the next settings would not go to record B")
	}
	rec, generation, _, err = newestRecord(p[ctlBoot:])
	if err != nil || generation != 1 || decodeBoot(rec) != goldenControl.boot {
		t.Errorf("boot: got %+v, generation %d, %v", decodeBoot(rec), generation, err)
	}
	for off, want := range map[int64]uint64{
		8192: 7<<32 | 1024, 8200: 1000, 8320: 7<<32 | 1024, 8832: 1000,
		8448: 0, 8576: 0, 8584: 0, 8704: 0,
	} {
		if got := getWord(p[off:]); got != want {
			t.Errorf("shared word at %d: got %#x, want %#x", off, got, want)
		}
	}
	if len(bytes.Trim(p[ctlPoisonReason:], "\x00")) != 0 {
		t.Error("bytes from the reason of the poison on are not zero")
	}
}

// TestEachFieldOfTheIdentityHasItsOwnError changes one field at a time, with
// the checksum made right again: a check that only the checksum hides is dead
// code.
func TestEachFieldOfTheIdentityHasItsOwnError(t *testing.T) {
	for _, c := range []struct {
		field    string
		off      int
		value    byte
		because  string // empty: no error
		newer    bool   // it Is ErrVersion
		readable bool   // no error for who only reads
	}{
		{"magic", ctlMagic, 'W', "magic", false, false},
		{"newer version", ctlVersion, 2, "version 2", true, false},
		{"version 0", ctlVersion, 0, "version 0", false, false},
		{"algorithm", ctlAlgorithm, 2, "algorithm 2", true, false},
		{"incompatible", ctlIncompatible + 7, 0x80, "incompatible features", true, false},
		{"read-only", ctlReadCompat, 1, "allow reading only", true, true},
		{"compatible", ctlCompatible, 1, "", false, false},
		{"queue", ctlQueue + 15, 1, "", false, false},
		{"created", ctlCreated, 1, "", false, false},
		{"slots", ctlSlots, 1, "slots", true, false},
		{"reserved", ctlSlots + 8, 1, "", false, false},
	} {
		p := goldenControlBytes()[:4096]
		p[c.off] = c.value
		for _, readOnly := range []bool{false, true} {
			_, err := decodeIdentity(p, readOnly)
			if want := "checksum"; c.field != "magic" && c.field != "newer version" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("%s, old checksum: got %v, want %q", c.field, err, want)
			}
		}
		putChecksum(p)
		for _, readOnly := range []bool{false, true} {
			_, err := decodeIdentity(p, readOnly)
			wanted := c.because != "" && (!readOnly || !c.readable)
			if !wanted && err != nil || wanted && (err == nil || !strings.Contains(err.Error(), c.because) || errors.Is(err, ErrVersion) != c.newer) {
				t.Errorf("%s, read-only %v: got %v, want %q, newer %v", c.field, readOnly, err, c.because, c.newer)
			}
		}
	}
}

func putChecksum(page []byte) {
	binary.LittleEndian.PutUint32(page[ctlChecksum:], crc32.Checksum(page[:ctlChecksum], crc32.MakeTable(crc32.Castagnoli)))
}

func TestATornRecordLeavesTheOther(t *testing.T) {
	p := goldenControlBytes()
	_, generation, next, err := newestRecord(p[ctlBoot:])
	if err != nil {
		t.Fatal(err)
	}
	later := boot{epoch: 6}
	encodeBoot(next, generation+1, later)
	if rec, g, _, err := newestRecord(p[ctlBoot:]); err != nil || g != generation+1 || decodeBoot(rec) != later {
		t.Errorf("got %+v, generation %d, %v", decodeBoot(rec), g, err)
	}
	for bit := range 8 * recordBytes { // any half-written state
		next[bit/8] ^= 1 << (bit % 8)
		if rec, g, _, err := newestRecord(p[ctlBoot:]); err != nil || g != generation || decodeBoot(rec) != goldenControl.boot {
			t.Errorf("bit %d flipped: got %+v, generation %d, %v", bit, decodeBoot(rec), g, err)
		}
		next[bit/8] ^= 1 << (bit % 8)
	}
	clear(p[ctlBoot : ctlBoot+2*recordSpacing])
	if _, _, _, err := newestRecord(p[ctlBoot:]); err == nil {
		t.Error("no record at all: no error")
	}
}

// A formatBinding ties a number in a table of docs/FORMAT.md to a constant of
// the code.
type formatBinding struct {
	table, field, column string
	constant             string
	width                int64 // of the size column; 0: not compared
}

var formatBindings = []formatBinding{
	{"identity", "magic", "offset", "ctlMagic", int64(len(controlMagic))},
	{"identity", "version", "offset", "ctlVersion", 4},
	{"identity", "version", "value", "controlVersion", 0},
	{"identity", "checksum algorithm", "offset", "ctlAlgorithm", 4},
	{"identity", "incompatible features", "offset", "ctlIncompatible", 8},
	{"identity", "read-only features", "offset", "ctlReadCompat", 8},
	{"identity", "compatible features", "offset", "ctlCompatible", 8},
	{"identity", "queue", "offset", "ctlQueue", 16},
	{"identity", "created", "offset", "ctlCreated", 8},
	{"identity", "slots", "offset", "ctlSlots", 8},
	{"identity", "checksum", "offset", "ctlChecksum", 4},

	{"control areas", "settings, record A", "offset", "ctlSettings", 512},
	{"control areas", "settings, record A", "size", "recordSpacing", 0},
	{"control areas", "boot, record A", "offset", "ctlBoot", 512},
	{"waiters", "summary", "offset", "waiterTop", 8},
	{"waiters", "leaf words", "offset", "waiterLeaves", 128},
	{"waiters", "next reason", "offset", "waiterSpacing", 0},
	{"control areas", "waiters", "offset", "ctlWaiters", ctlParticipants - ctlWaiters},
	{"control areas", "participants", "offset", "ctlParticipants", participantSize * segment.MaxSlots},
	{"control areas", "identity, written once", "size", "identityBytes", 0},
	{"control areas", "end of the file", "offset", "controlBytes", 0},

	{"settings record", "generation", "offset", "recGeneration", 8},
	{"settings record", "segment size", "offset", "setSegmentSize", 8},
	{"settings record", "max bytes", "offset", "setMaxBytes", 8},
	{"settings record", "max age", "offset", "setMaxAge", 8},
	{"settings record", "durability", "offset", "setDurability", 4},
	{"settings record", "flags", "offset", "setFlags", 4},
	{"settings record", "checksum", "offset", "recChecksum", recordBytes - recChecksum},

	{"boot record", "generation", "offset", "recGeneration", 8},
	{"boot record", "boot id", "offset", "bootID", 16},
	{"boot record", "epoch", "offset", "bootEpoch", 8},
	{"boot record", "clean", "offset", "bootClean", 8},
	{"boot record", "lock file", "offset", "bootLock", 8},
	{"boot record", "control file", "offset", "bootControl", 8},
	{"boot record", "checksum", "offset", "recChecksum", recordBytes - recChecksum},

	{"durabilities", "always", "number", "SyncAlways", 0},
	{"durabilities", "interval", "number", "SyncInterval", 0},
	{"durabilities", "never", "number", "SyncNever", 0},

	{"control shared words", "durable", "offset", "ctlDurable", 8},
	{"control shared words", "durable sequence", "offset", "ctlDurableSeq", 8},
	{"control shared words", "durable segment", "offset", "ctlDurableFirst", 8},
	{"control shared words", "trim to", "offset", "ctlTrimTo", 8},
	{"control shared words", "trim check", "offset", "ctlTrimCheck", 8},
	{"control shared words", "settled", "offset", "ctlSettled", 8},
	{"control shared words", "settled segment", "offset", "ctlSettledFirst", 8},
	{"control shared words", "newest segment", "offset", "ctlNewest", 8},
	{"control shared words", "poison", "offset", "ctlPoison", 8},
	{"control shared words", "poison time", "offset", "ctlPoisonTime", 8},
	{"control shared words", "poison slot", "offset", "ctlPoisonSlot", 8},
	{"control shared words", "poison length", "offset", "ctlPoisonLength", 8},
	{"control shared words", "intent owner", "offset", "ctlIntentOwner", 8},
	{"control shared words", "intent end", "offset", "ctlIntentEnd", 8},
	{"control shared words", "gather", "offset", "ctlGather", 8},
	{"control shared words", "oldest", "offset", "ctlOldest", 8},
	{"control shared words", "poison reason", "offset", "ctlPoisonReason", poisonReasonSize},

	{"participant", "incarnation", "offset", "parIncarnation", 8},
	{"participant", "state", "offset", "parState", 8},
	{"participant", "pid", "offset", "parPID", 8},
	{"participant", "since", "offset", "parSince", 8},
	{"participant", "role", "offset", "parRole", 8},
	{"participant", "version", "offset", "parVersion", 8},

	{"lock bytes", "recovery", "byte", "lockRecovery", 0},
	{"lock bytes", "trim", "byte", "lockTrim", 0},
	{"lock bytes", "index", "byte", "lockIndex", 0},
	{"lock bytes", "prepare", "byte", "lockPrepare", 0},
	{"lock bytes", "slot 0", "byte", "lockSlots", 0},
}

// boundElsewhere are the constants that stand behind the width of a row.
var boundElsewhere = []string{"controlMagic", "recordBytes", "participantSize", "poisonReasonSize"}

// formatKeys are the columns by which rows are found.
var formatKeys = []string{"field", "area", "durability", "lock"}

func compareFormat(document string, code map[string]int64) (wrong []string) {
	tables := readFormatTables(document)
	bound := map[string]bool{
		"control areas: identity, written once": true, "control areas: shared words": true,
		"control areas: settings, record B": true, "control areas: boot, record B": true,
	}
	for _, b := range formatBindings {
		r := tables[b.table][b.field]
		bound[b.table+": "+b.field] = true
		value, ok := code[b.constant]
		switch got, _, _ := strings.Cut(r[b.column], " "); {
		case !ok:
			wrong = append(wrong, "the code has no constant "+b.constant)
		case got != strconv.FormatInt(value, 10), b.width != 0 && r["size"] != strconv.FormatInt(b.width, 10):
			wrong = append(wrong, fmt.Sprintf("table %q, %s: got %v, want %s = %d, size %d", b.table, b.field, r, b.constant, value, b.width))
		}
	}
	for _, b := range formatBindings {
		for field := range tables[b.table] {
			if !bound[b.table+": "+field] {
				wrong = append(wrong, fmt.Sprintf("table %q has a row %q that the code does not have", b.table, field))
			}
		}
	}
	areas := tables["control areas"]
	for name, want := range map[string]int64{
		"identity, written once": 0, "settings, record B": ctlSettings + recordSpacing,
		"boot, record B": ctlBoot + recordSpacing, "shared words": ctlDurable,
	} {
		if got := areas[name]["offset"]; got != strconv.FormatInt(want, 10) {
			wrong = append(wrong, fmt.Sprintf("area %q: got offset %q, want %d", name, got, want))
		}
	}
	if got, want := tables["identity"]["magic"]["value"], "`"+strings.ReplaceAll(controlMagic, "\n", `\n`)+"`"; got != want {
		wrong = append(wrong, fmt.Sprintf("magic: got %s, want %s", got, want))
	}
	return append(wrong, compareNames(document)...)
}

// compareNames holds the names of the directory, the permissions, and the
// packed words against the code.
func compareNames(document string) (wrong []string) {
	position, tag := makePosition(0xffffffff, 0), member{slot: 0xfffe}.tag()
	for what, row := range map[string]string{
		"control file": "| `" + controlName + "` ", "lock file": "| `" + lockName + "` ",
		"log": "| `" + logName + "` ", "groups": "| `" + groupsName + "` ",
		"wake": "| `" + wakeName + "` ", "quarantine": "| `" + quarantineName + "` ",
		"temporary control file": "`" + controlTemp + "`",
		"temporary of recovery":  "`" + recoveryTemp + "`",
		"modes":                  fmt.Sprintf("| %04o        | %04o  |", permsFor(false).dir.Perm(), permsFor(false).file),
		"modes of a group":       fmt.Sprintf("| 2%o        | %04o  |", permsFor(true).dir.Perm(), permsFor(true).file),
		"ordinal of a position":  fmt.Sprintf("| %s | ordinal", bitsOf(uint64(position))),
		"slot of a tag":          fmt.Sprintf("| %s  | slot plus 1", bitsOf(tag)),
		"incarnation of a tag":   fmt.Sprintf("| %s | incarnation", bitsOf(member{incarnation: 1<<48 - 1, slot: -1}.tag())),
	} {
		if !strings.Contains(document, row) {
			wrong = append(wrong, fmt.Sprintf("%s: %q is not in the document", what, row))
		}
	}
	return wrong
}

// bitsOf names the range of bits that are set.
func bitsOf(v uint64) string {
	text := fmt.Sprintf("%064b", v)
	return fmt.Sprintf("%d-%d", 63-strings.LastIndexByte(text, '1'), 63-strings.IndexByte(text, '1'))
}

func TestTheDocumentSaysWhatTheControlFileIs(t *testing.T) {
	for _, w := range compareFormat(testx.FormatDocument(t), formatConstants(t)) {
		t.Error(w)
	}
}

func TestEveryConstantOfTheControlFileIsInTheDocument(t *testing.T) {
	for name := range formatConstants(t) {
		if !slices.Contains(boundElsewhere, name) && !slices.ContainsFunc(formatBindings, func(b formatBinding) bool { return b.constant == name }) {
			t.Errorf("%s is in the code and nothing compares it with docs/FORMAT.md", name)
		}
	}
}

// TestAWrongDocumentOfTheControlFileIsFound changes each bound row in turn.
func TestAWrongDocumentOfTheControlFileIsFound(t *testing.T) {
	doc, code := testx.FormatDocument(t), formatConstants(t)
	lines := strings.Split(doc, "\n")
	table, tried := "", 0
	for i, line := range lines {
		if name, ok := strings.CutPrefix(line, "**Table: "); ok {
			table = strings.TrimSuffix(name, ".**")
		}
		if !slices.ContainsFunc(formatBindings, func(b formatBinding) bool { return b.table == table }) || !strings.HasPrefix(line, "| ") || strings.Contains(line, "| size |") {
			continue
		}
		cells := strings.Split(line, "|")
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		cells[1] = fmt.Sprintf(" %d ", n+1)
		for what, changed := range map[string][]string{
			"another number": slices.Concat(lines[:i], []string{strings.Join(cells, "|")}, lines[i+1:]),
			"no such row":    slices.Concat(lines[:i], lines[i+1:]),
			"one row more":   slices.Concat(lines[:i+1], []string{"| 7 | 8 | other |"}, lines[i+1:]),
		} {
			if len(compareFormat(strings.Join(changed, "\n"), code)) == 0 {
				t.Errorf("nobody noticed %s at %q", what, line)
			}
			tried++
		}
	}
	if tried < 3*50 {
		t.Errorf("only %d changes tried", tried)
	}
}

// readFormatTables gives the tables' rows by the name of the table and of the
// field.
func readFormatTables(document string) map[string]map[string]map[string]string {
	all := map[string]map[string]map[string]string{}
	for name, rows := range testx.Tables(document) {
		all[name] = map[string]map[string]string{}
		for _, row := range rows {
			for _, key := range formatKeys {
				field := row[key]
				if key == "lock" || key == "durability" {
					field, _, _ = strings.Cut(field, ":")
				}
				if field != "" {
					all[name][field] = row
				}
			}
		}
	}
	return all
}

// formatConstants are the constants of the control file by name.
func formatConstants(t testing.TB) map[string]int64 {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "control_format.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Other packages are not loaded: no constant here needs them.
	lenient := types.Config{Error: func(error) {}}
	pkg, _ := lenient.Check("wal", fset, []*ast.File{f}, nil)
	all := map[string]int64{}
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok {
			all[name], _ = constant.Int64Val(constant.ToInt(c.Val()))
		}
	}
	return all
}
