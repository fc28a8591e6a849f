package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/walq/walq/wal"
)

// errFaults: verify found what it looks for.
var errFaults = errors.New("corruption found")

func newVerify() *cobra.Command {
	cmd := manual{arguments: dirArgument, exits: corrupt, see: "walq dump, walq stat"}.on(&cobra.Command{
		Use:   "verify DIR",
		Short: "Check every byte of a queue",
		Long: `Check every frame of every segment and every other file of the queue in DIR, those
of groups too. The files are read and none is changed; others may use the queue
meanwhile. What a group's file says of messages in flight is checked only if nobody
has the queue open.

Each fault is a line with its file, its offset in bytes and what is wrong there;
the last line counts. What is written right now, or was when a process died, is
no fault. On a terminal it shows how far it is.

-o json prints messages, segments, and faults, each with path, offset and reason.`,
		Example: `  walq verify /tmp/orders
  walq verify /tmp/orders -o json | jq '.faults[]'`,
		Args: arguments("DIR"),
	})
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p := progressOf(cmd)
		report, err := verify(cmd.Context(), args[0], func(done, total int64) {
			if p.due() {
				p.show("%s of %s checked", formatSize(done), formatSize(total))
			}
		})
		p.end()
		if err != nil {
			return noQueue(args[0], err)
		}
		unread := verifyGroups(args[0], &report)
		err = printReport(cmd.OutOrStdout(), output.value, report)
		if n := len(report.Faults); n > 0 {
			return besides(fmt.Errorf("%w: %s in %s", errFaults, plural(n, "fault"), args[0]), errors.Join(unread, err))
		}
		return errors.Join(unread, err)
	}
	return cmd
}

func verify(ctx context.Context, dir string, progress func(done, total int64)) (wal.Report, error) {
	report, err := wal.Verify(ctx, dir, progress)
	if ctx.Err() != nil {
		return report, stopped(ctx)
	}
	return report, err
}

func printReport(w io.Writer, format string, report wal.Report) error {
	if format == "json" {
		return printJSON(w, report)
	}
	for _, f := range report.Faults {
		if _, err := fmt.Fprintf(w, "%s: offset %d: %s\n", f.Path, f.Offset, f.Reason); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%s in %s, %s\n", plural(report.Messages, "message"), plural(report.Segments, "segment"), plural(len(report.Faults), "fault"))
	return err
}
