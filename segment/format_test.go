package segment

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// A binding ties a row of a table of docs/FORMAT.md to a constant of the code.
// The row is found by its field; its number stands in the column, as it is or
// as the first of a range.
type binding struct {
	table, field, column string
	constant             string // by name, in the source of this package
	width                int64  // of the size column, or of the range of bits; 0: not compared
}

var bindings = []binding{
	{"segment header", "magic", "offset", "offMagic", int64(len(Magic))},
	{"segment header", "version", "offset", "offVersion", 4},
	{"segment header", "version", "value", "Version", 0},
	{"segment header", "checksum algorithm", "offset", "offAlgorithm", 4},
	{"segment header", "checksum algorithm", "value", "ChecksumCRC32C", 0},
	{"segment header", "incompatible features", "offset", "offIncompatible", 8},
	{"segment header", "read-only features", "offset", "offReadCompat", 8},
	{"segment header", "compatible features", "offset", "offCompatible", 8},
	{"segment header", "segment size", "offset", "offSize", 8},
	{"segment header", "ordinal", "offset", "offOrdinal", 8},
	{"segment header", "first", "offset", "offFirst", 8},
	{"segment header", "epoch", "offset", "offEpoch", 8},
	{"segment header", "predecessor's first", "offset", "offPrevFirst", 8},
	{"segment header", "predecessor's end", "offset", "offPrevEnd", 8},
	{"segment header", "durable", "offset", "offDurable", 8},
	{"segment header", "salt", "offset", "offSalt", 8},
	{"segment header", "created", "offset", "offCreated", 8},
	{"segment header", "queue", "offset", "offQueue", 16},
	{"segment header", "checksum", "offset", "offChecksum", 4},

	{"segment shared words", "tail hint", "offset", "offTailHint", 8},
	{"segment shared words", "allocated", "offset", "offAllocated", 8},
	{"segment shared words", "linked", "offset", "offLinked", 8},
	{"segment shared words", "padded", "offset", "offPadded", 8},
	{"segment shared words", "index", "offset", "offIndex", 0},

	{"frame header", "word", "offset", "offWord", 8},
	{"frame header", "CRC", "offset", "offCRC", 4},
	{"frame header", "kind", "offset", "offKind", 1},
	{"frame header", "flags", "offset", "offFlags", 1},
	{"frame header", "metadata length", "offset", "offMetaLen", 2},
	{"frame header", "time", "offset", "offTime", 8},

	{"word", "check", "bits", "checkShift", 8},

	{"states", "FREE", "number", "Free", 0},
	{"states", "CLAIMED", "number", "Claimed", 0},
	{"states", "COMMITTED", "number", "Committed", 0},
	{"states", "PAD", "number", "Pad", 0},
	{"states", "SEAL", "number", "Seal", 0},
	{"states", "SEAL_JUMP", "number", "SealJump", 0},

	{"kinds", "message", "number", "KindMessage", 0},
	{"kinds", "batch", "number", "KindBatch", 0},
	{"kinds", "control", "number", "KindControl", 0},

	{"limits", "smallest segment size", "value", "MinSize", 0},
	{"limits", "largest segment size", "value", "MaxSize", 0},
	{"limits", "segment size is a multiple of", "value", "pageBytes", 0},
	{"limits", "stride of the sparse index", "value", "indexStrideBytes", 0},
	{"limits", "frame without its content", "value", "FrameHeader", 0},
	{"limits", "room that is kept for a SEAL", "value", "SealBytes", 0},
	{"limits", "longest content of a frame", "value", "MaxLength", 0},
	{"limits", "most messages in a frame", "value", "MaxCount", 0},
	{"limits", "longest metadata", "value", "MaxMeta", 0},
	{"limits", "participants", "value", "MaxSlots", 0},
}

// elsewhere are the constants of the format files that no row gives as a
// number, and what compares them instead.
var elsewhere = map[string]string{
	"kindShift": "made of offsets", "flagsShift": "made of offsets", "metaShift": "made of offsets",
	"Magic":           "TestTheDocumentSaysWhatTheCodeDoes: the magic row",
	"headerBytes":     "the shared words begin there",
	"indexEntryBytes": "TestTheDocumentSaysWhatTheCodeDoes: the size of an index entry",
	"lengthBits":      "TestTheDocumentSaysWhatTheCodeDoes: the bits of a word",
	"countBits":       "the same",
	"slotBits":        "the same",
	"stateBits":       "the same",
	"placeBits":       "TestTheDocumentSaysWhatTheCodeDoes: the bits of a place",
}

// keyColumns are the columns by which rows are found.
var keyColumns = []string{"field", "state", "kind", "limit"}

// compare holds the tables of the document against the constants of the code
// and returns what differs.
func compare(document string, code map[string]int64) (wrong []string) {
	tables := readTables(document)
	bound := map[string]bool{}
	for _, b := range bindings {
		bound[b.table+": "+b.field] = true
		value, ok := code[b.constant]
		if !ok {
			wrong = append(wrong, "the code has no constant "+b.constant)
			continue
		}
		row, ok := tables.find(b.table, b.field)
		if !ok {
			wrong = append(wrong, fmt.Sprintf("table %q has no row %q, which is %s", b.table, b.field, b.constant))
			continue
		}
		first, width := span(row[b.column])
		if size, err := strconv.ParseInt(row["size"], 10, 64); err == nil {
			width = size
		}
		if first != value || b.width != 0 && width != b.width {
			wrong = append(wrong, fmt.Sprintf("table %q, %s: %s is %q, %s is %d", b.table, b.field, b.column, row[b.column], b.constant, value))
		}
	}
	for _, name := range []string{"segment header", "segment shared words", "frame header", "states", "kinds", "limits"} {
		for _, row := range tables[name] {
			if field := row.key(); !bound[name+": "+field] {
				wrong = append(wrong, fmt.Sprintf("table %q has a row %q that the code does not have", name, field))
			}
		}
	}
	return append(wrong, compareBits(tables)...)
}

// compareBits holds what has no constants of its own against words that the
// code makes.
func compareBits(tables tables) (wrong []string) {
	expect := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s: the document says %v, the code does %v", what, got, want))
		}
	}
	magic, _ := tables.find("segment header", "magic")
	expect("magic", strings.Trim(magic["value"], "`"), strings.ReplaceAll(Magic, "\n", `\n`))
	expect("size of an index entry", tables.end("index entry"), int64(indexEntryBytes))
	expect("size of a frame's header", tables.end("frame header"), int64(FrameHeader))
	s := OnHeap(header(MaxSize / 1024))
	for table, fields := range map[string]map[string]uint64{
		"word": {
			"length": uint64(MakeWord(0, 0, 0, MaxLength)), "count": uint64(MakeWord(0, 0, MaxCount, 0)),
			"slot": uint64(MakeWord(0, MaxSlots-1, 0, 0)), "state": uint64(MakeWord(15, 0, 0, 0)), "check": 0xff << checkShift,
		},
		"place": {
			"offset, divided by 8":                      s.Pack(Cursor{(1<<28 - 1) * 8, s.First}),
			"sequence number minus the segment's first": s.Pack(Cursor{0, s.First + 1<<28 - 1}),
			"check: the sum of the seven bytes below":   0xff << checkShift,
		},
	} {
		expect("rows of table "+table, len(tables[table]), len(fields))
		for field, w := range fields {
			row, ok := tables.find(table, field)
			if !ok {
				continue // the number of rows told
			}
			first, width := span(row["bits"])
			low := w
			if !strings.HasPrefix(field, "check") {
				low = w & (1<<checkShift - 1)
			}
			expect(table+" "+field, (uint64(1)<<width-1)<<first, low)
		}
	}
	return wrong
}

func TestTheDocumentSaysWhatTheCodeDoes(t *testing.T) {
	for _, w := range compare(testx.FormatDocument(t), constants(t, "format.go", "word.go", "cursor.go")) {
		t.Error(w)
	}
}

func TestEveryConstantOfTheFormatIsInTheDocument(t *testing.T) {
	known := maps.Clone(elsewhere)
	for _, b := range bindings {
		known[b.constant] = b.table
	}
	for name := range constants(t, "format.go", "word.go") {
		if known[name] == "" {
			t.Errorf("%s is in the code and nothing compares it with docs/FORMAT.md", name)
		}
	}
}

// TestAWrongDocumentIsFound changes each bound number in turn, and takes each
// bound row away: the comparison must notice.
func TestAWrongDocumentIsFound(t *testing.T) {
	doc, code := testx.FormatDocument(t), constants(t, "format.go", "word.go", "cursor.go")
	lines := strings.Split(doc, "\n")
	table, tried := "", 0
	for i, line := range lines {
		if name, ok := caption(line); ok {
			table = name
		}
		bound := slices.ContainsFunc(bindings, func(b binding) bool { return b.table == table }) || table == "place" || table == "index entry"
		if !bound || !strings.HasPrefix(line, "| ") || !strings.ContainsAny(line, "0123456789") {
			continue
		}
		for what, changed := range map[string][]string{
			"another number": slices.Concat(lines[:i], []string{bump(line)}, lines[i+1:]),
			"no such row":    slices.Concat(lines[:i], lines[i+1:]),
			"one row more":   slices.Concat(lines[:i+1], []string{strings.ReplaceAll(line, " |", " other |")}, lines[i+1:]),
		} {
			if len(compare(strings.Join(changed, "\n"), code)) == 0 {
				t.Errorf("nobody noticed %s at %q", what, line)
			}
			tried++
		}
	}
	if tried < 3*len(bindings) {
		t.Errorf("only %d changes tried", tried)
	}
}

// bump changes the number that counts in a row: the first one, or in the table
// of limits the last.
func bump(row string) string {
	cells := strings.Split(row, "|")
	for i, cell := range cells {
		if n, err := strconv.ParseInt(strings.TrimSpace(cell), 10, 64); err == nil {
			cells[i] = fmt.Sprintf(" %d ", n+1)
			return strings.Join(cells, "|")
		}
		if first, _ := span(cell); strings.Contains(cell, "-") && first >= 0 {
			cells[i] = " 1-2 "
			return strings.Join(cells, "|")
		}
	}
	return row
}

// The tables of the document.

type row map[string]string

type tables map[string][]row

// caption is the name of the table that a line announces.
func caption(line string) (name string, ok bool) {
	name, ok = strings.CutPrefix(line, "**Table: ")
	return strings.TrimSuffix(name, ".**"), ok
}

// readTables reads every table that has a caption.
func readTables(document string) tables {
	all := tables{}
	for name, rows := range testx.Tables(document) {
		for _, r := range rows {
			all[name] = append(all[name], row(r))
		}
	}
	return all
}

func (r row) key() string {
	for _, column := range keyColumns {
		if key, ok := r[column]; ok {
			return key
		}
	}
	return ""
}

// find gives the row of a field. In tables of bits a field is followed by what
// it means.
func (t tables) find(table, field string) (row, bool) {
	for _, r := range t[table] {
		if key := r.key(); key == field || strings.HasPrefix(key, field+":") || strings.HasPrefix(key, field+",") {
			return r, true
		}
	}
	return nil, false
}

// end is where the last row of a table with offsets and sizes ends, -1 if they
// do not follow one another.
func (t tables) end(table string) (end int64) {
	for _, r := range t[table] {
		off, _ := strconv.ParseInt(r["offset"], 10, 64)
		size, _ := strconv.ParseInt(r["size"], 10, 64)
		if off != end {
			return -1
		}
		end += size
	}
	return end
}

// span reads a number, with whatever follows it, or a range of them.
func span(cell string) (first, width int64) {
	cell = strings.TrimSpace(cell)
	digits := func(s string) (int64, string) {
		n := len(s) - len(strings.TrimLeft(s, "0123456789"))
		v, err := strconv.ParseInt(s[:n], 10, 64)
		if err != nil {
			v = -1
		}
		return v, s[n:]
	}
	first, rest := digits(cell)
	if last, ok := strings.CutPrefix(rest, "-"); ok {
		end, _ := digits(last)
		return first, end - first + 1
	}
	return first, 1
}

// constants are the integer constants that the package declares in these files,
// by name.
func constants(t testing.TB, names ...string) map[string]int64 {
	t.Helper()
	fset, files := token.NewFileSet(), []*ast.File(nil)
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	// Other packages are not loaded: what needs them is no constant.
	lenient := types.Config{Error: func(error) {}, FakeImportC: true}
	pkg, _ := lenient.Check("segment", fset, files, nil)
	all := map[string]int64{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok {
			continue
		}
		v, exact := constant.Int64Val(constant.ToInt(c.Val()))
		if c.Val().Kind() == constant.String {
			v, exact = 0, true
		}
		if !exact {
			t.Fatalf("constant %s has the value %v", name, c.Val())
		}
		all[name] = v
	}
	if len(all) < 20 {
		t.Fatalf("only %d constants found in %v", len(all), names)
	}
	return all
}
