package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/walq/walq/wal"
)

// errToRepair: a dry run found something to do.
var errToRepair = fmt.Errorf("%w: nothing was changed; --yes repairs it", errFaults)

func newRepair() *cobra.Command {
	var yes bool
	cmd := manual{
		arguments: dirArgument,
		exits:     "3    a dry run found something to repair, or a group cannot be mended",
		see:       "walq verify, walq dump",
	}.on(&cobra.Command{
		Use:   "repair DIR",
		Short: "Mend a damaged or poisoned queue in place",
		Long: `Mend the queue in DIR: end the poison that a failed sync left, and replace what is
damaged by what takes its place without a message in it. Without --yes nothing is
written; it says what would be done.

Only messages that the damage touched are lost: their sequence numbers become a gap,
all others stay as they are. The last line says how many, each lost range is a line
before it. The files as they were are kept in DIR/quarantine; remove them once you
do not need them. A queue in which nothing is wrong is not touched.

Groups forget nothing that is known to be finished, but what was may be handed out
again. The file of a group as it was is kept beside it, as NAME.grp.bad. What cannot
be mended of a group is said and left as it is, and the exit status is 3.

Nobody else may have the queue open. If repair is killed, or power fails, run it
again. It needs room on the disk for copies of the files that it changes.

-o json prints lost, messages (those left), lost_at_least, ranges, each with first,
last, path, offset and reason, repaired, each with path, offset and reason, left, the
same of what cannot be mended, quarantined and dry_run.`,
		Example: `  walq repair /var/lib/orders
  walq repair /var/lib/orders --yes
  walq repair /var/lib/orders -o json | jq '.ranges[]'`,
		Args: arguments("DIR"),
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, write: without it only say what would be done")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p := progressOf(cmd)
		var groups mendedGroups
		report, err := repair(cmd.Context(), args[0], wal.RepairOptions{DryRun: !yes, Besides: func(scene wal.Scene) error {
			return groups.mend(args[0], scene, !yes)
		}, Progress: func(done, total int64) {
			if p.due() {
				p.show("%s of %s looked at", formatSize(done), formatSize(total))
			}
		}})
		p.end()
		if err != nil {
			return noQueue(args[0], err)
		}
		whole := groups.with(report)
		err = printRepair(cmd.OutOrStdout(), output.value, whole)
		switch n := len(whole.Left); {
		case n > 0:
			return besides(fmt.Errorf("%w: %s in groups cannot be mended", errFaults, plural(n, "fault")), err)
		case whole.DryRun && !whole.Sound():
			return besides(errToRepair, err)
		}
		return err
	}
	return cmd
}

func repair(ctx context.Context, dir string, o wal.RepairOptions) (wal.RepairReport, error) {
	report, err := wal.Repair(ctx, dir, o)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return report, stopped(ctx)
	}
	return report, err
}

func printRepair(w io.Writer, format string, r repairReport) error {
	if format == "json" {
		return printJSON(w, r)
	}
	lines := reportLines{w: w}
	for _, f := range r.Repaired {
		lines.printf("%s: offset %d: %s\n", f.Path, f.Offset, f.Reason)
	}
	for _, f := range r.Left {
		lines.printf("not mended: %s: offset %d: %s\n", f.Path, f.Offset, f.Reason)
	}
	for _, l := range r.Ranges {
		more := ""
		if l.AtLeast {
			more = " and maybe more"
		}
		lines.printf("lost seq %d to %d%s: %s: offset %d: %s\n", l.First, l.Last, more, l.Path, l.Offset, l.Reason)
	}
	for _, path := range r.Quarantined {
		if r.DryRun {
			lines.printf("to be kept as %s\n", path)
		} else {
			lines.printf("kept as %s\n", path)
		}
	}
	atLeast, would := "", ""
	if r.LostAtLeast {
		atLeast = "at least "
	}
	switch {
	case r.Sound() && len(r.Left) == 0:
		lines.printf("nothing to repair, %s\n", plural(r.Messages, "message"))
		return lines.err
	case r.DryRun:
		would = "would be "
	}
	lines.printf("%slost %s%s of %s\n", would, atLeast, thousands(r.Lost), thousands(r.Messages+r.Lost))
	return lines.err
}

// reportLines remember the first error.
type reportLines struct {
	w   io.Writer
	err error
}

func (p *reportLines) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// thousands writes a number for people.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
