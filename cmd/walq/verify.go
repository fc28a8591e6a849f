package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq/wal"
)

// errFaults: verify found what it looks for.
var errFaults = errors.New("corruption found")

func newVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify DIR",
		Short: "Check every byte of a queue",
		Long: `Check every frame of every segment and every other file of the queue in DIR. The
files are read and none is changed; others may use the queue meanwhile.

The exit status is 3 if anything is wrong. What is written right now, or was
when a process died, is no fault.`,
		Example: `  walq verify /tmp/orders
  walq verify /tmp/orders -o json | jq '.faults[]'`,
		Args: arguments("DIR"),
	}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		report, err := verify(cmd.Context(), args[0], progressOn(cmd.ErrOrStderr()))
		if err != nil {
			return noQueue(args[0], err)
		}
		if err := printReport(cmd.OutOrStdout(), output.value, report); err != nil {
			return err
		}
		if n := len(report.Faults); n > 0 {
			return fmt.Errorf("%w: %s in %s", errFaults, plural(n, "fault"), args[0])
		}
		return nil
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

// progressEvery is often enough to see that something happens.
const progressEvery = 100 * time.Millisecond

// progressOn returns what shows progress on a terminal, nil if w is none.
func progressOn(w io.Writer) func(done, total int64) {
	if !terminal(w) {
		return nil
	}
	var last time.Time
	return func(done, total int64) {
		if done < total && time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "\r%s of %s checked\x1b[K", formatSize(done), formatSize(total))
		if done >= total {
			fmt.Fprint(w, "\r\x1b[K")
		}
	}
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
