package main

import (
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newStat() *cobra.Command {
	cmd := manual{arguments: dirArgument, exits: corrupt, see: "walq verify, walq set, walq cat"}.on(&cobra.Command{
		Use:   "stat DIR",
		Short: "Show what is in a queue and who has it open",
		Long: `Show the settings of the queue in DIR, how much is in it, its files, its groups of
consumers, and who has it open. Looking changes nothing: it needs permission to read only. Participants
that are not alive died with the queue open.

-o json prints id, epoch, settings, first_seq, last_seq, durable_seq, messages,
bytes, segments, participants, groups (each as "walq group ls" has it), and poisoned,
which is null or says why nothing is appended any more, and held_by, which is null or
names the group that keeps the oldest messages from being trimmed. Sizes are in bytes, ages in nanoseconds.`,
		Example: `  walq stat /tmp/orders
  walq stat /tmp/orders -o json | jq .messages`,
		Args: arguments("DIR"),
	})
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := walq.Open(cmd.Context(), args[0], walq.Options{ReadOnly: true})
		if err != nil {
			return noQueue(args[0], err)
		}
		s, err := q.Stats()
		if err != nil {
			return errors.Join(err, q.Close())
		}
		all, err := q.Groups() // one that is damaged does not hide the rest
		err = errors.Join(err, q.Close())
		if output.value == "json" {
			return besides(err, printJSON(cmd.OutOrStdout(), stats{s, append([]walq.GroupInfo{}, all...)}))
		}
		return besides(err, printStats(cmd.OutOrStdout(), q.Path(), s, all))
	}
	return cmd
}

// stats is what a program gets to see.
type stats struct {
	walq.Stats
	Groups []walq.GroupInfo `json:"groups"`
}

func printStats(w io.Writer, path string, s walq.Stats, all []walq.GroupInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	row("queue\t%s", path)
	row("id\t%s", s.ID)
	row("epoch\t%d", s.Epoch)
	row("messages\t%d", s.Messages)
	row("seq\t%d..%d, durable to %d", s.FirstSeq, s.LastSeq, s.DurableSeq)
	row("on disk\t%s in %s", formatSize(s.Bytes), plural(len(s.Segments), "segment"))
	row("segment size\t%s", formatSize(s.Settings.SegmentSize))
	row("limits\t%s", limits(s.Settings))
	if h := s.HeldBy; h != nil {
		row("held\t%s, from seq %d on, by %s", formatSize(h.Bytes), h.From, h.By)
	}
	row("durability\t%s", s.Settings.Durability)
	row("access\t%s", map[bool]string{false: "owner", true: "owner and group"}[s.Settings.GroupAccess])
	if s.Poisoned != nil {
		row("POISONED\t%s: %s", formatTime(s.Poisoned.Time), s.Poisoned.Reason)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	row("\nSEGMENT\tFIRST SEQ\tMESSAGES\tON DISK\tSEALED")
	for _, g := range s.Segments {
		row("%s\t%d\t%d\t%s\t%s", g.Path, g.FirstSeq, g.Messages, formatSize(g.Bytes), yesNo(g.Sealed))
	}
	if len(all) > 0 {
		row("")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if err := printGroups(w, all); err != nil {
		return err
	}
	if len(s.Participants) > 0 {
		row("\nSLOT\tALIVE\tPID\tROLE\tSINCE")
	}
	for _, p := range s.Participants {
		row("%d\t%s\t%d\t%s\t%s", p.Slot, yesNo(p.Alive), p.PID, p.Role, formatTime(p.Since))
	}
	return t.Flush()
}

func limits(s walq.Settings) string {
	text := orNone("bytes", s.MaxBytes, formatSize(s.MaxBytes)) + ", " +
		orNone("age", s.MaxAgeNanos, formatAge(time.Duration(s.MaxAgeNanos)))
	if s.MaxBytes > 0 {
		text += fmt.Sprintf(", appends %s when it is full", s.WhenFull)
	}
	return text
}

func orNone(what string, n int64, text string) string {
	if n == 0 {
		return "no limit of " + what
	}
	return text
}

func yesNo(b bool) string { return map[bool]string{false: "no", true: "yes"}[b] }

func formatTime(t time.Time) string { return t.Format("2006-01-02 15:04:05.000") }
