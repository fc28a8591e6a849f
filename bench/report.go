package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// printJSON prints the whole report as one object.
func (r *Report) printJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// printTable prints it for people.
func (r *Report) printTable(out io.Writer) error {
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "%s\n%s\n\n", r.Machine, r.Settings)
	for _, p := range r.Peers {
		fmt.Fprintf(w, "%-28s %s\n", p.Name, p.About)
	}
	fmt.Fprint(w, "\nMedian, range, and how many times the cost of walq and of the limit.\n")
	for first, rest := 0, r.Rows; len(rest) > 0; rest = rest[first:] {
		for first = 0; first < len(rest) && rest[first].Work == rest[0].Work; first++ {
		}
		if err := printWork(w, rest[:first]); err != nil {
			return err
		}
	}
	return w.Flush()
}

func printWork(w io.Writer, rows []*Row) error {
	fmt.Fprintf(w, "\n%s: %s (%s)\n", rows[0].Work, rows[0].About, rows[0].Where)
	if rows[0].Size {
		return printGrowth(w, rows)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if r.none() != "" {
			continue // below, not to tear the columns
		}
		name := r.Subject
		if r.Limit {
			name = "limit: " + name
		}
		for i, s := range r.Stats {
			durability := r.Durability
			if i > 0 {
				name, durability = "", ""
			}
			by, unit := readable(s.Median, s.Unit)
			fmt.Fprintf(t, "  %s\t%s %s\t%s … %s\t%s\t%s\t%s\n", name, figure(s.Median/by), strings.TrimSpace(unit+" "+s.Name),
				figure(s.Min/by), figure(s.Max/by), times(s.OverWalq, "walq"), r.overLimit(s), durability)
		}
	}
	for _, r := range rows {
		if why := r.none(); why != "" {
			fmt.Fprintf(t, "  %s\t%s\n", r.Subject, why)
		}
	}
	return t.Flush()
}

// overLimit is nothing for the limit itself.
func (r *Row) overLimit(s Stat) string {
	if r.Limit {
		return ""
	}
	return times(s.OverLimit, "limit")
}

// none says why the row has no figures.
func (r *Row) none() string {
	switch {
	case r.NotAvailable != "":
		return notAvailable(r.NotAvailable).Error()
	case r.Failed != "":
		return "failed: " + strings.ReplaceAll(r.Failed, "\n", "; ")
	case len(r.Stats) == 0:
		return "failed: no figure came out"
	}
	return ""
}

// scales are the units that a person would rather read, by the unit of a metric.
var scales = map[string][]struct {
	from, by float64
	unit     string
}{
	"ns": {{1e7, 1e6, "ms"}, {1e4, 1e3, "µs"}},
	"µs": {{1e4, 1e3, "ms"}},
}

// readable says in which unit a figure reads well, and what to divide by.
func readable(v float64, unit string) (by float64, as string) {
	for _, s := range scales[unit] {
		if v >= s.from {
			return s.by, s.unit
		}
	}
	return 1, unit
}

// figure is a number with about three digits that mean something.
func figure(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 0.1:
		return fmt.Sprintf("%.3g", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func times(v float64, what string) string {
	if v == 0 {
		return ""
	}
	return "× " + figure(v) + " " + what
}

// printList prints what could be measured, and about how long that takes.
func printList(w io.Writer, o Options) (err error) {
	all, chosen, whole := works(o), o.chosen(), time.Duration(0)
	if o.Time, err = o.timeWithin(all, chosen); err != nil {
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, work := range all {
		took := o.expected(work, chosen)
		whole += took
		fmt.Fprintf(t, "%s\t%v\t%s\n", work.Name, took.Round(time.Second), work.About)
	}
	fmt.Fprintf(t, "all\t%v\t%v each\n", whole.Round(time.Second), o.Time)
	fmt.Fprintln(t)
	for _, p := range peers() {
		if !o.Peers.MatchString(p.Name) {
			continue
		}
		about := p.About
		if p.Missing != nil {
			if why := p.Missing(); why != "" {
				about = notAvailable(why).Error()
			}
		}
		fmt.Fprintf(t, "%s\t%s\n", p.Name, about)
	}
	return t.Flush()
}
