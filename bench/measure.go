package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Row is what one subject came to in one work.
type Row struct {
	Work         string  `json:"work"`
	About        string  `json:"about"`
	Where        string  `json:"where"`
	Subject      string  `json:"subject"`
	Limit        bool    `json:"limit,omitempty"` // the subject is the machine
	Size         bool    `json:"size,omitempty"`  // the subject is walq, of one of several sizes
	Durability   string  `json:"durability,omitempty"`
	NotAvailable string  `json:"not_available,omitempty"`
	Failed       string  `json:"failed,omitempty"`
	Stats        []Stat  `json:"stats,omitempty"`
	Seconds      float64 `json:"seconds,omitempty"` // that all its rounds took, with what was made for them
}

// A Stat is one figure of a row over all rounds.
type Stat struct {
	Name      string    `json:"name,omitempty"`
	Unit      string    `json:"unit"`
	Median    float64   `json:"median"`
	Min       float64   `json:"min"`
	Max       float64   `json:"max"`
	Samples   []float64 `json:"samples"`
	OverWalq  float64   `json:"over_walq,omitempty"`  // how many times the cost of walq; of a size: of the first size
	OverLimit float64   `json:"over_limit,omitempty"` // how many times the cost of the limit
}

// A Report is a whole run.
type Report struct {
	Machine  string    `json:"machine"`
	Settings string    `json:"settings"`
	Began    time.Time `json:"began"`
	Took     float64   `json:"took_seconds"`
	Finished bool      `json:"finished"` // false: the run was ended, and the works behind are missing
	Peers    []About   `json:"peers"`
	Rows     []*Row    `json:"rows"`
}

// About says what a peer is.
type About struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// measure does all that the options ask for.
func measure(ctx context.Context, o Options) (r *Report, err error) {
	chosen := o.chosen()
	all := works(o)
	if len(all) == 0 {
		return nil, errors.New("no work is chosen; -list has them")
	}
	o.Time, err = o.timeWithin(all, chosen)
	if err != nil {
		return nil, err
	}
	e, err := newEnv(o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	r = &Report{Machine: machine(), Began: time.Now(), Settings: o.settings()}
	for _, p := range chosen {
		r.Peers = append(r.Peers, About{p.Name, p.About})
	}
	progress := newProgress(o, all, chosen)
	if err := touch(o.Touch); err != nil {
		return nil, err
	}
	for _, w := range all {
		rows, err := e.measureWork(ctx, w, chosen)
		if err != nil {
			return r, err
		}
		r.Rows = append(r.Rows, rows...)
		r.Took = time.Since(r.Began).Seconds()
		progress.done(w, rows)
		if err := o.keep(r); err != nil {
			return r, err
		}
	}
	r.Finished = true
	return r, o.keep(r)
}

// chosen are the peers that take part.
func (o Options) chosen() (all []Peer) {
	for _, p := range peers() {
		if o.Peers.MatchString(p.Name) {
			all = append(all, p)
		}
	}
	return all
}

// settings says how it is measured.
func (o Options) settings() string {
	cold := "posix_fadvise"
	if o.DropCaches {
		cold += " and drop_caches"
	}
	text := fmt.Sprintf("%d rounds of %v each, by turns; logs of %d messages, a large log of %d, at most %d MiB filled; disk %s (%s), memory %s (%s); cold by %s",
		o.Rounds, o.Time, o.Messages, o.Large, o.Room>>20, o.Dir, fileSystem(o.Dir), o.Memory, fileSystem(o.Memory), cold)
	if o.Note != "" {
		text += "; " + o.Note
	}
	return text
}

// measureWork does one work with every subject, round by round. What a subject
// cannot do is in its row; the error is that of the run as a whole.
func (e *Env) measureWork(ctx context.Context, w Work, peers []Peer) ([]*Row, error) {
	var rows []*Row
	var subjects []func() ([]Metric, error)
	add := func(row Row, run func() ([]Metric, error)) {
		row.Work, row.About, row.Where = w.Name, w.About, e.where(w)
		rows, subjects = append(rows, &row), append(subjects, run)
	}
	if w.Limit != nil {
		add(Row{Subject: w.LimitName, Limit: true}, func() ([]Metric, error) { return w.Limit(ctx, e) })
	}
	for _, v := range w.Variants {
		if _, ok := peerIn(peers, walqName); ok {
			add(Row{Subject: v.Name, Size: true}, func() ([]Metric, error) { return v.Run(ctx, e) })
		}
	}
	for _, p := range peers {
		if part, reason := w.takesPart(p); part {
			add(Row{Subject: p.Name, Durability: p.durability(w.Mode), NotAvailable: reason},
				func() ([]Metric, error) { return w.Run(ctx, e, p) })
		}
	}
	samples := make([][]Metric, len(rows))
	for round := range e.Rounds {
		for i := range rows {
			i = (i + round) % len(rows) // nobody is always behind the same one
			if rows[i].NotAvailable != "" || rows[i].Failed != "" {
				continue
			}
			runtime.GC()
			began := time.Now()
			metrics, err := subjects[i]()
			rows[i].Seconds += time.Since(began).Seconds()
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err := rows[i].note(err); err != nil {
				e.talk("%s: %s: %v", w.Name, rows[i].Subject, err)
			}
			samples[i] = append(samples[i], metrics...)
		}
	}
	for i, row := range rows {
		if row.NotAvailable == "" && row.Failed == "" {
			row.Stats = statsOf(samples[i])
		}
	}
	compare(rows)
	return rows, nil
}

// note writes down why there are no figures, and returns what is a failure.
func (r *Row) note(err error) error {
	var not notAvailable
	switch {
	case err == nil:
		return nil
	case errors.As(err, &not):
		r.NotAvailable = string(not)
		return nil
	}
	r.Failed = err.Error()
	return err
}

func (e *Env) where(w Work) string {
	if w.Disk {
		return "disk, " + fileSystem(e.Dir)
	}
	return fmt.Sprintf("%s, at most %d MiB", fileSystem(e.Memory), e.Room>>20)
}

// statsOf sorts the metrics of all rounds by their names.
func statsOf(all []Metric) (stats []Stat) {
	for _, m := range all {
		i := slices.IndexFunc(stats, func(s Stat) bool { return s.Name == m.Name })
		if i < 0 {
			i = len(stats)
			stats = append(stats, Stat{Name: m.Name, Unit: m.Unit})
		}
		stats[i].Samples = append(stats[i].Samples, m.Value)
	}
	for i := range stats {
		s := &stats[i]
		sorted := slices.Sorted(slices.Values(s.Samples))
		n := len(sorted)
		s.Min, s.Max, s.Median = sorted[0], sorted[n-1], (sorted[(n-1)/2]+sorted[n/2])/2
	}
	return stats
}

// compare fills in how many times the cost is that of walq and of the limit.
func compare(rows []*Row) {
	var ours, limit []Stat
	for _, r := range rows {
		switch {
		case r.Limit:
			limit = r.Stats
		case r.Subject == walqName, r.Size && ours == nil:
			ours = r.Stats
		}
	}
	for _, r := range rows {
		for i := range r.Stats {
			s := &r.Stats[i]
			s.OverWalq, s.OverLimit = s.times(ours), s.times(limit)
		}
	}
}

// times is how many times the cost of the same figure of another; 0 if that has
// none.
func (s Stat) times(other []Stat) float64 {
	i := slices.IndexFunc(other, func(o Stat) bool { return o.Name == s.Name })
	if i < 0 || other[i].Median == 0 || s.Median == 0 {
		return 0
	}
	if (Metric{Unit: s.Unit}).higherIsBetter() {
		return other[i].Median / s.Median
	}
	return s.Median / other[i].Median
}

// failure is an error if a row failed.
func (r *Report) failure() error {
	var failed []string
	for _, row := range r.Rows {
		if row.Failed != "" {
			failed = append(failed, row.Work+" with "+row.Subject)
		}
	}
	if failed == nil {
		return nil
	}
	return errors.New("failed: " + strings.Join(failed, "; "))
}

// machine says where the figures are from.
func machine() string {
	text := fmt.Sprintf("%s %s/%s, %d processors", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		text += ", kernel " + unix.ByteSliceToString(u.Release[:])
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				text += ", revision " + s.Value
			}
		}
	}
	return text
}
