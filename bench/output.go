package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// An output is in which forms a report is shown.
type output struct {
	json, markdown bool
	chart, out     string
	fill           []string
}

func (f *output) flags(flags *flag.FlagSet) {
	flags.BoolVar(&f.json, "json", false, "print JSON")
	flags.BoolVar(&f.markdown, "markdown", false, "print the tables of the documents")
	flags.StringVar(&f.chart, "chart", "", "draw the chief figures into this SVG `file`")
	flags.Func("fill", "put the tables into this Markdown `file`, between its marks; may be given again", func(name string) error {
		f.fill = append(f.fill, name)
		return nil
	})
}

// write shows the report in every form that was asked for, and as a table if it was
// not to be printed in another one.
func (f *output) write(r *Report) (err error) {
	switch {
	case f.json:
		err = r.printJSON(os.Stdout)
	case f.markdown:
		_, err = fmt.Print(r.markdown())
	default:
		err = r.printTable(os.Stdout)
	}
	if f.chart != "" {
		err = errors.Join(err, r.draw(f.chart))
	}
	if f.out != "" {
		err = errors.Join(err, os.WriteFile(f.out+".md", []byte(r.markdown()), 0o644))
		if _, bars := r.bars(); len(bars) > 0 {
			err = errors.Join(err, r.draw(f.out+".svg"))
		}
	}
	for _, name := range f.fill {
		err = errors.Join(err, r.fill(name))
	}
	return err
}

// readReport reads what -json or -out wrote.
func readReport(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// fill replaces what stands between the marks of a Markdown file by the tables of the
// report. A mark whose table has no figures in this run stays as it is.
func (r *Report) fill(name string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	filled, err := r.filled(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(name, []byte(filled), 0o644)
}

// Marks are comments of Markdown: what is between them comes from a run.
const (
	beginMark = "<!-- bench:"
	endMark   = "<!-- bench end -->"
)

func (r *Report) filled(text string) (string, error) {
	var out strings.Builder
	found := false
	for {
		before, rest, ok := strings.Cut(text, beginMark)
		if !ok {
			break
		}
		name, rest, ok := strings.Cut(rest, " -->\n")
		old, rest, end := strings.Cut(rest, endMark)
		if !ok || !end || strings.Contains(old, beginMark) {
			return "", fmt.Errorf("the mark %q has no end", beginMark+name)
		}
		table, known := r.section(name)
		if !known {
			return "", fmt.Errorf("there is no table %q", name)
		}
		if table == "" {
			table = old
		}
		out.WriteString(before + beginMark + name + " -->\n" + table + endMark)
		found, text = true, rest
	}
	if !found {
		return "", fmt.Errorf("no mark %q", beginMark)
	}
	return out.String() + text, nil
}
