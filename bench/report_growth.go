package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// grown is how many times a cost must be that of the first size to be named as one that
// grows, in all rounds more than in any of the first size; less may be the machine.
const grown = 1.5

// printGrowth prints the rows of sizes, a column for each, and names what grows.
func printGrowth(w io.Writer, rows []*Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range growthTable(rows, true) {
		fmt.Fprintf(t, "  %s\n", strings.Join(line, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if why := r.none(); why != "" {
			fmt.Fprintf(w, "  %s: %s\n", r.Subject, why)
		}
	}
	if rows[0].Work == bodiesWork { // more bytes are more work
		return nil
	}
	_, err := fmt.Fprintf(w, "  %s\n", whatGrows(rows))
	return err
}

// growthTable has a line for each figure and a column for each size; the first line and
// column are names. Behind each figure stands how many times that of the first size it
// is, and its range, if ranges are wanted.
func growthTable(rows []*Row, ranges bool) [][]string {
	head := []string{""}
	var names []string
	for _, r := range rows {
		head = append(head, r.Subject)
		for _, s := range r.Stats {
			if !slices.Contains(names, s.Name) {
				names = append(names, s.Name)
			}
		}
	}
	table := [][]string{head}
	for _, name := range names {
		line := []string{name}
		for i, r := range rows {
			line = append(line, "")
			s, ok := r.stat(name)
			if !ok {
				continue
			}
			by, unit := readable(s.Median, s.Unit)
			text := figure(s.Median/by) + " " + unit
			if ranges {
				text += fmt.Sprintf(" (%s … %s)", figure(s.Min/by), figure(s.Max/by))
			}
			if i > 0 && s.OverWalq != 0 {
				text += " × " + figure(s.OverWalq)
			}
			line[i+1] = text
		}
		table = append(table, line)
	}
	return table
}

// whatGrows names the figures of the last size that cost more than those of the first.
func whatGrows(rows []*Row) string {
	last := rows[len(rows)-1]
	var all []string
	for _, s := range last.Stats {
		if first, ok := rows[0].stat(s.Name); ok && s.OverWalq >= grown && s.Min > first.Max {
			all = append(all, fmt.Sprintf("%s × %s", s.Name, figure(s.OverWalq)))
		}
	}
	if all == nil {
		return fmt.Sprintf("nothing costs %v times as much with %s as with %s", grown, last.Subject, rows[0].Subject)
	}
	return fmt.Sprintf("more with %s than with %s: %s", last.Subject, rows[0].Subject, strings.Join(all, ", "))
}

// stat is the figure of that name.
func (r *Row) stat(name string) (Stat, bool) {
	i := slices.IndexFunc(r.Stats, func(s Stat) bool { return s.Name == name })
	if i < 0 {
		return Stat{}, false
	}
	return r.Stats[i], true
}
