// Command bench measures walq beside other Go queues and logs and beside what the
// machine allows, all in one run, round by round.
//
//	go run . -short            # a few minutes: the chief rows
//	go run .                   # all of them, half an hour
//	go run . -works sync -peers 'walq|bbolt' -json
//	go run . -budget 28m -out run            # run.json after each work, run.svg, run.md
//	go run . -from run.json -fill ../README.md -fill ../docs/PERFORMANCE.md
//
// Each measurement is taken -rounds times, the subjects taking turns; the table has
// the median and the range, and how many times the cost is that of walq and of the
// limit. A peer that cannot do a thing, or cannot run here, says why.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// Options say what is measured and how long.
type Options struct {
	Rounds     int
	Time       time.Duration // of one measurement
	Messages   int           // of a log that is read
	Large      int           // messages of 1 KiB in a log that is opened and searched
	Room       int64         // bytes that one measurement may fill
	Touch      int64         // bytes of memory to use before anything is measured
	Dir        string        // on the disk that is measured
	Memory     string        // a directory in memory
	Works      *regexp.Regexp
	Peers      *regexp.Regexp
	Short      bool
	DropCaches bool          // drop the page cache of the whole machine before a cold read
	Budget     time.Duration // that the run is to take about; it decides Time
	Note       string        // what else is to be known of the machine
	Out        string        // files that are written, without what their names end in
	talk       func(format string, args ...any)
}

// minRounds is how many rounds make a figure.
const minRounds = 5

// selects reports whether the work is to be done.
func (o Options) selects(w Work) bool {
	return o.Works.MatchString(w.Name) && (w.Brief || !o.Short)
}

func main() {
	if done, code := childMain(); done {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	o := Options{talk: func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.IntVar(&o.Rounds, "rounds", minRounds, "how often each thing is measured, the subjects taking turns")
	flags.DurationVar(&o.Time, "time", 500*time.Millisecond, "how long one measurement appends or waits")
	flags.DurationVar(&o.Budget, "budget", 0, "how long the whole run is to take about; it decides -time")
	flags.IntVar(&o.Messages, "messages", 1_000_000, "messages of a log that is read")
	flags.IntVar(&o.Large, "large", 1_000_000, "messages of 1 KiB in the log that is opened and searched; 10000000 are 10 GB, for each peer")
	flags.Int64Var(&o.Room, "room", 1<<30, "bytes that one measurement may fill at most")
	flags.Int64Var(&o.Touch, "touch", 4<<30, "bytes of memory to use and give back before anything is measured")
	flags.StringVar(&o.Dir, "dir", os.TempDir(), "`directory` on the disk that is measured")
	flags.StringVar(&o.Memory, "memory", "", "`directory` of all works that are not about the disk, for walq and peers alike (default /dev/shm if that is tmpfs, else that of -dir)")
	flags.BoolVar(&o.Short, "short", false, "a few minutes: the chief rows, briefly; not for figures")
	flags.BoolVar(&o.DropCaches, "drop", os.Geteuid() == 0, "before a cold read drop the page cache of the whole machine too (root)")
	worksText := flags.String("works", "", "only works that this regular `expression` matches")
	peersText := flags.String("peers", "", "only peers that this regular `expression` matches")
	var show output
	show.flags(flags)
	flags.StringVar(&o.Out, "out", "", "write `name`.json after each work, and at the end name.svg and name.md")
	flags.StringVar(&o.Note, "note", "", "what else is to be known of the machine: a `text` for the head of the tables")
	list := flags.Bool("list", false, "list works and about how long each takes, and peers, and measure nothing")
	from := flags.String("from", "", "measure nothing, and show the run of this JSON `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.Works, err = regexp.Compile(*worksText); err != nil {
		return err
	}
	if o.Peers, err = regexp.Compile(*peersText); err != nil {
		return err
	}
	o.settle(flags)
	if *list {
		return printList(os.Stdout, o)
	}
	var report *Report
	if *from != "" {
		report, err = readReport(*from)
	} else {
		report, err = measure(ctx, o)
	}
	if report == nil || len(report.Rows) == 0 {
		return err
	}
	show.out = o.Out
	return errors.Join(err, show.write(report), report.failure())
}

// settle fills in what depends on other options and on the machine.
func (o *Options) settle(flags *flag.FlagSet) {
	given := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.Short {
		brief(o, given)
	}
	if o.Memory == "" {
		o.Memory = o.Dir
		if fileSystem("/dev/shm") == "tmpfs" {
			o.Memory = "/dev/shm"
		}
	}
	if o.Rounds < minRounds {
		o.talk("fewer than %d rounds: see that it runs, and quote none of it", minRounds)
	}
}

// brief makes a short run, as far as nothing else was asked for.
func brief(o *Options, given map[string]bool) {
	if !given["time"] {
		o.Time = 40 * time.Millisecond
	}
	if !given["messages"] {
		o.Messages = 20_000
	}
	if !given["large"] {
		o.Large = 20_000
	}
	if !given["room"] {
		o.Room = 128 << 20
	}
	if !given["touch"] {
		o.Touch = 1 << 30
	}
}
