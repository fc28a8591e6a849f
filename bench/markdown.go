package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// A section is a table of the documents, made from a run.
type section struct {
	name string
	make func(r *Report) string // "": the run has no figures for it
}

// limitName stands for the limit of whatever work.
const limitName = "limit"

// sections are all, in the order of docs/PERFORMANCE.md.
func sections() []section {
	subjects := func(name, what string, columns ...column) section {
		return section{name, func(r *Report) string { return r.bySubject(what, columns) }}
	}
	growth := func(work string) section {
		return section{strings.ReplaceAll(work, "/", "-"), func(r *Report) string { return r.growth(work) }}
	}
	quantiles := []string{"p50", "p99", "p99.9"}
	return []section{
		{"machine", (*Report).about},
		subjects("append", "append, not synced; ns each",
			column{"single", "append/100B/1/batch1", nil}, column{"batches of 16", "append/100B/1/batch16", nil}, column{"of 1000", "append/100B/1/batch1000", nil},
			column{"8 appenders", "append/100B/8/batch1", nil}, column{"64", "append/100B/64/batch1", nil},
			column{"1 KiB", "append/1024B/1/batch1", nil}, column{"1 KiB, 8 appenders", "append/1024B/8/batch1", nil}, column{"1 KiB, 64", "append/1024B/64/batch1", nil},
			column{"one, timed: p50, p99, p99.9", "latency/100B", quantiles}),
		subjects("sync", "append on stable storage; messages a second",
			column{"1 appender", "sync/100B/1/batch1", nil}, column{"8", "sync/100B/8/batch1", nil}, column{"64", "sync/100B/64/batch1", nil}, column{"512", "sync/100B/512/batch1", nil},
			column{"1 KiB: 1", "sync/1024B/1/batch1", nil}, column{"8", "sync/1024B/8/batch1", nil}, column{"64", "sync/1024B/64/batch1", nil},
			column{"one goroutine, many under way", "pipeline/100B", nil}),
		subjects("replay", "replay; ns each",
			column{"100 B, warm", "replay/100B/warm", nil}, column{"100 B, cold", "replay/100B/cold", nil}, column{"1 KiB, warm", "replay/1024B/warm", nil}, column{"1 KiB, cold", "replay/1024B/cold", nil}),
		subjects("processes", "between processes, 100 B; ns",
			column{"two append", "producers/100B/2/batch1", nil}, column{"in batches of 16", "producers/100B/2/batch16", nil}, column{"four append", "producers/100B/4/batch1", nil}, column{"in batches of 16", "producers/100B/4/batch16", nil},
			column{"one appends, one reads", "stream/100B/batch1", nil}, column{"in batches of 16", "stream/100B/batch16", nil}),
		subjects("roundtrip", "to another process and back; p50, p99, p99.9, ns",
			column{"both spin", "roundtrip/" + spinning, quantiles}, column{"both sleep", "roundtrip/" + sleeping, quantiles}),
		subjects("group", "receive and acknowledge, 100 B, one by one; ns each",
			column{"one consumer", "group/100B/1", nil}, column{"two processes", "group/100B/2", nil}),
		subjects("large", "a large log of 1 KiB messages; memory after 100 B were appended and read",
			column{"open, ms", "open", nil}, column{"memory of that, MiB", "open", []string{"resident"}},
			column{"seek by number, µs: p50, p99", "seek/number", []string{"p50", "p99"}}, column{"by time", "seek/time", []string{"p50", "p99"}},
			column{"memory after use, MiB: private, of files", "memory", []string{"private", "of files"}}),
		growth("scale/segments"), growth("scale/readers"), growth("scale/groups"), growth(bodiesWork),
		{"limits", (*Report).limits},
		{"readme", (*Report).readme},
	}
}

func (r *Report) section(name string) (text string, known bool) {
	for _, s := range sections() {
		if s.name == name {
			return s.make(r), true
		}
	}
	return "", false
}

// markdown is all tables.
func (r *Report) markdown() string {
	var all strings.Builder
	for _, s := range sections() {
		if text := s.make(r); text != "" {
			fmt.Fprintf(&all, "%s%s -->\n%s%s\n\n", beginMark, s.name, text, endMark)
		}
	}
	return all.String()
}

// A column is one figure, or several, of one work.
type column struct {
	title, work string
	stats       []string // nil: the chief one
}

// find is a row of the report.
func (r *Report) find(work, subject string) *Row {
	for _, row := range r.Rows {
		if row.Work == work && len(row.Stats) > 0 && (row.Subject == subject || row.Limit && subject == limitName) {
			return row
		}
	}
	return nil
}

// bySubject is a table with a line for each subject: walq, the limit, the others.
func (r *Report) bySubject(what string, columns []column) string {
	subjects := []string{walqName, walqView, walqNext, limitName}
	for _, row := range r.Rows {
		if !row.Limit && !row.Size && !slices.Contains(subjects, row.Subject) {
			subjects = append(subjects, row.Subject)
		}
	}
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column) bool { return r.find(c.work, walqName) == nil })
	if len(columns) == 0 {
		return ""
	}
	head := []string{what + "; " + r.find(columns[0].work, walqName).Where}
	for _, c := range columns {
		head = append(head, c.title)
	}
	table := [][]string{head}
	for _, subject := range subjects {
		line, some := []string{subject}, false
		if subject == walqName {
			line[0] = "**walq**"
		}
		for _, c := range columns {
			text := r.cell(c, subject)
			line, some = append(line, text), some || text != ""
		}
		if some {
			table = append(table, line)
		}
	}
	if len(table) == 1 {
		return ""
	}
	return markdownTable(table)
}

func (r *Report) cell(c column, subject string) string {
	row := r.find(c.work, subject)
	if row == nil {
		return ""
	}
	names := c.stats
	if names == nil {
		names = []string{""}
	}
	var all []string
	for _, name := range names {
		if s, ok := row.stat(name); ok {
			all = append(all, number(s.Median))
		}
	}
	return strings.Join(all, ", ")
}

func (r *Report) growth(work string) string {
	var rows []*Row
	for _, row := range r.Rows {
		if row.Work == work {
			rows = append(rows, row)
		}
	}
	if len(rows) == 0 {
		return ""
	}
	return markdownTable(growthTable(rows, false))
}

// limits is every figure of the machine alone.
func (r *Report) limits() string {
	table := [][]string{{"the machine alone", "median", "range"}}
	for _, row := range r.Rows {
		if kind := (Work{Name: row.Work}).kind(); !row.Limit || kind != "disk" && kind != "floor" && kind != "pages" {
			continue
		}
		for _, s := range row.Stats {
			table = append(table, []string{row.Work + ": " + s.Name, number(s.Median) + " " + s.Unit, number(s.Min) + " to " + number(s.Max)})
		}
	}
	if len(table) == 1 {
		return ""
	}
	return markdownTable(table)
}

// readmePeers are the columns of the table in the README.
var readmePeers = []struct{ title, subject string }{
	{"tidwall/wal", "tidwall/wal"}, {"bbolt", "etcd-io/bbolt"}, {"badger", "dgraph-io/badger"}, {"JetStream, TCP", "NATS JetStream, TCP"}, {"the machine's limit", limitName},
}

// readme is the table of the README: how many times the cost of walq.
func (r *Report) readme() string {
	head := []string{"messages of 100 bytes", "walq"}
	for _, p := range readmePeers {
		head = append(head, p.title)
	}
	table := [][]string{head}
	for _, line := range []column{
		{"append, not synced", "append/100B/1/batch1", []string{""}},
		{"the same, in batches of 1000", "append/100B/1/batch1000", []string{""}},
		{"append on stable storage, alone", "sync/100B/1/batch1", []string{""}},
		{"the same, 64 appenders", "sync/100B/64/batch1", []string{""}},
		{"replay, verified by walq alone", "replay/100B/warm", []string{""}},
		{"from one process to another", "stream/100B/batch1", []string{""}},
		{"to another and back, asleep", "roundtrip/" + sleeping, []string{"p50"}},
		{"a group's receive and acknowledge", "group/100B/1", []string{""}},
	} {
		ours := r.find(line.work, walqName)
		if ours == nil {
			continue
		}
		s, ok := ours.stat(line.stats[0])
		if !ok {
			continue
		}
		by, unit := readable(s.Median, s.Unit)
		cells := []string{line.title, number(s.Median/by) + " " + unit}
		for _, p := range readmePeers {
			cells = append(cells, r.ratio(line.work, p.subject, line.stats[0]))
		}
		table = append(table, cells)
	}
	if len(table) == 1 {
		return ""
	}
	return markdownTable(table)
}

// ratio is how many times the cost of walq; bold where a peer costs less.
func (r *Report) ratio(work, subject, stat string) string {
	row := r.find(work, subject)
	if row == nil {
		return ""
	}
	s, ok := row.stat(stat)
	if !ok || s.OverWalq == 0 {
		return ""
	}
	text := "× " + short(s.OverWalq)
	if s.OverWalq < 1 && subject != limitName {
		return "**" + text + "**"
	}
	return text
}

// about says where the figures are from.
func (r *Report) about() string {
	if len(r.Rows) == 0 {
		return ""
	}
	text := fmt.Sprintf("%s. %s. %s; %s.\n", r.Began.UTC().Format("2 January 2006"), r.Machine, r.Settings, roundMinutes(r.Took))
	if !r.Finished {
		text += "The run was ended before all works were done.\n"
	}
	return text
}

func roundMinutes(seconds float64) string {
	return fmt.Sprintf("%.0f minutes", math.Ceil(seconds/60))
}

func markdownTable(lines [][]string) string {
	var out strings.Builder
	for i, line := range lines {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(line, " | "))
		if i == 0 {
			fmt.Fprintf(&out, "|%s\n", strings.Repeat("---|", len(line)))
		}
	}
	return out.String()
}

// number has three digits that mean something, and commas.
func number(v float64) string {
	if math.Abs(v) < 100 {
		return short(v)
	}
	unit := math.Pow(10, max(math.Floor(math.Log10(math.Abs(v)))-2, 0))
	digits := strconv.FormatFloat(math.Round(v/unit)*unit, 'f', 0, 64)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// short has two digits that mean something, three from ten on.
func short(v float64) string {
	switch {
	case v == 0:
		return "0"
	case math.Abs(v) < 10:
		return strconv.FormatFloat(v, 'g', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}
