package testx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FormatDocument is the text of docs/FORMAT.md.
func FormatDocument(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), "docs", "FORMAT.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Tables reads every table of a Markdown document that has a caption of the form
// **Table: name.** above it: its rows, each by the names of the columns. What
// stands beyond the last column belongs to that.
func Tables(document string) map[string][]map[string]string {
	all := map[string][]map[string]string{}
	name, columns := "", []string(nil)
	for line := range strings.Lines(document) {
		line = strings.TrimSpace(line)
		if caption, ok := strings.CutPrefix(line, "**Table: "); ok {
			name, columns = strings.TrimSuffix(caption, ".**"), nil
			continue
		}
		if !strings.HasPrefix(line, "|") {
			if line != "" || columns != nil {
				name = ""
			}
			continue
		}
		if name == "" || strings.HasPrefix(line, "|-") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if columns == nil {
			columns = cells
			continue
		}
		row := map[string]string{}
		for i, cell := range cells {
			row[columns[min(i, len(columns)-1)]] = cell
		}
		all[name] = append(all[name], row)
	}
	return all
}
