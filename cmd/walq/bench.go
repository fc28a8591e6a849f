package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	var o benchOptions
	cmd := manual{arguments: "DIR  measure on the disk of this directory (default that of temporary files)", see: "walq demo"}.on(&cobra.Command{
		Use:   "bench [DIR]",
		Short: "Measure walq on this machine, beside what the machine allows",
		Long: `Measure for a few seconds what walq does here: append, append in batches, read,
the way to another process and back, waking a process that sleeps, and durable
appends of one and of many at once. Beside each stands what the machine allows at
best: the copy and the checksum alone, one cache line between two processes, one
bare datagram, one bare sync after another; and how many times its cost walq's is.

The queues are made in a directory of their own below DIR and removed after. Other
work on the machine shows in the figures: the round trip needs two idle processors.
Other queues are measured in the same way by the module in the directory bench of
the source.

-o json prints dir, bytes, and rows, each with name, unit, value, p99 of times of
single events, limit, limit_name, and times_limit.`,
		Example: `  walq bench
  walq bench /var/lib
  walq bench /var/lib --bytes 1024 --time 1s -o json | jq '.rows[] | [.name, .value]'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return arguments("DIR")(cmd, args)
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return directories(cmd, args, word)
		},
	})
	f := cmd.Flags()
	f.IntVar(&o.bytes, "bytes", 100, "size of a message, 1 to 65536")
	f.DurationVar(&o.time, "time", 300*time.Millisecond, "how long to measure each thing, up to 1m")
	output := outputFlag(cmd, "text", "json")
	cmd.AddCommand(newBenchAnswer())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.bytes < 1 || o.bytes > 1<<16 || o.time <= 0 || o.time > time.Minute {
			return usagef("want messages of 1 to 65536 bytes, and at most 1m for each thing")
		}
		o.dir = os.TempDir()
		if len(args) > 0 {
			o.dir = args[0]
		}
		result, err := bench(cmd, o)
		if err != nil {
			return noDirectory(o.dir, err)
		}
		if output.value == "json" {
			return printJSON(cmd.OutOrStdout(), result)
		}
		return result.print(cmd.OutOrStdout())
	}
	return cmd
}

type benchOptions struct {
	dir   string
	bytes int
	time  time.Duration
}

// A benchRow is one thing that was measured and what the machine allows.
type benchRow struct {
	Name       string  `json:"name"`
	Unit       string  `json:"unit"`
	Value      float64 `json:"value"` // of single events the median
	P99        float64 `json:"p99,omitempty"`
	Limit      float64 `json:"limit"`
	LimitName  string  `json:"limit_name"`
	TimesLimit float64 `json:"times_limit"` // how many times the limit's cost
}

type benchResult struct {
	Dir   string     `json:"dir"`
	Bytes int        `json:"bytes"`
	Rows  []benchRow `json:"rows"`
}

// bench measures everything in a directory of its own.
func bench(cmd *cobra.Command, o benchOptions) (r benchResult, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	r = benchResult{Dir: o.dir, Bytes: o.bytes}
	dir, err := os.MkdirTemp(o.dir, "walq-bench-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &benching{ctx: cmd.Context(), dir: dir, self: self, talk: cmd.ErrOrStderr(), o: o}
	for _, measure := range []func() ([]benchRow, error){
		b.appends, b.reads, b.roundTrips, b.wakeUps, b.commits,
	} {
		rows, err := measure()
		if stop := stopped(b.ctx); stop != nil {
			return r, stop
		}
		if err != nil {
			return r, err
		}
		r.Rows = append(r.Rows, rows...)
	}
	return r, nil
}

// row makes a row of a cost and that of the limit.
func row(name, unit string, value, p99 float64, limitName string, limit float64) benchRow {
	r := benchRow{Name: name, Unit: unit, Value: value, P99: p99, Limit: limit, LimitName: limitName}
	if limit > 0 && value > 0 {
		r.TimesLimit = value / limit
		if unit == perSecond { // more is better
			r.TimesLimit = limit / value
		}
	}
	return r
}

const perSecond = "messages/s"

// print is for people.
func (r benchResult) print(out io.Writer) error {
	if _, err := fmt.Fprintf(out, "messages of %d bytes in %s\n\n", r.Bytes, r.Dir); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\twalq\tp99\tthe machine\ttimes its cost\twhich is")
	for _, row := range r.Rows {
		p99 := ""
		if row.P99 > 0 {
			p99 = amount(row.P99, row.Unit)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.2f\t%s\n", row.Name, amount(row.Value, row.Unit), p99, amount(row.Limit, row.Unit), row.TimesLimit, row.LimitName)
	}
	return w.Flush()
}

// amount writes a figure with the unit in which it reads well.
func amount(v float64, unit string) string {
	switch {
	case unit == perSecond && v >= 1e6:
		return fmt.Sprintf("%.2f M/s", v/1e6)
	case unit == perSecond && v >= 1e4:
		return fmt.Sprintf("%.1f k/s", v/1e3)
	case unit == perSecond:
		return fmt.Sprintf("%.0f /s", v)
	case v >= 1e6:
		return fmt.Sprintf("%.1f ms", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1f µs", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
