package main

import (
	"errors"
	"fmt"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// draw draws for each work how many times the cost of walq everyone's is, the
// median of the rounds, on a logarithmic scale.
func (r *Report) draw(file string) error {
	names, bars := r.bars()
	if len(bars) == 0 {
		return errors.New("there is nothing to draw: no figure of walq with one to compare")
	}
	p := plot.New()
	p.Title.Text = "Cost of one message, walq = 1 (median; less is better)"
	p.X.Label.Text = "times the cost of walq, logarithmic"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	for i, subject := range r.subjects() {
		var points plotter.XYs
		for _, b := range bars {
			if b.subject == subject {
				points = append(points, plotter.XY{X: b.times, Y: float64(b.line)})
			}
		}
		if points == nil {
			continue
		}
		s, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		s.Color, s.Shape, s.Radius = colour(i), shape(i), vg.Points(4)
		p.Add(s)
		p.Legend.Add(subject, s)
	}
	// An axis of one value alone would be widened beyond 0, which has no logarithm.
	p.X.Min, p.X.Max = min(p.X.Min, 0.5), max(p.X.Max, 2)
	p.NominalY(names...)
	// Lines without a name, for the legend to lie on.
	lines := len(names) + (len(r.subjects())*14)/18 + 2
	p.Y.Min, p.Y.Max = -1, float64(lines)
	height := vg.Length(lines)*vg.Points(18) + vg.Points(80)
	if err := p.Save(vg.Points(900), height, file); err != nil {
		return fmt.Errorf("chart %s: %w", file, err)
	}
	return nil
}

// A bar is the chief figure of one subject in one work.
type bar struct {
	subject string
	line    int
	times   float64
}

// bars gives the works from the bottom up and what is in them: the chief figure of each,
// or all if none is the chief one.
func (r *Report) bars() (names []string, bars []bar) {
	for _, row := range slices.Backward(r.Rows) {
		if row.Size {
			continue
		}
		_, chief := row.stat("")
		for _, s := range row.Stats {
			if s.OverWalq == 0 || chief && s.Name != "" {
				continue
			}
			name := row.Work
			if s.Name != "" {
				name += " " + s.Name
			}
			line := slices.Index(names, name)
			if line < 0 {
				line = len(names)
				names = append(names, name)
			}
			bars = append(bars, bar{row.chartName(), line, s.OverWalq})
		}
	}
	return names, bars
}

func (r *Row) chartName() string {
	if r.Limit {
		return "limit of the machine"
	}
	return r.Subject
}

// subjects are all that have a figure, in the order of the table.
func (r *Report) subjects() (all []string) {
	for _, row := range r.Rows {
		if name := row.chartName(); !row.Size && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}
