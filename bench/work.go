package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// A Metric is one figure of one measurement. A unit that ends in /s is better when
// it is higher, all others when they are lower.
type Metric struct {
	Name  string  `json:"name"` // empty: the chief one of the work
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
}

func (m Metric) higherIsBetter() bool { return strings.HasSuffix(m.Unit, "/s") }

// A Work is one thing to measure, with each peer and at the limit. To add one,
// write a file work_NAME.go and its line in works.
type Work struct {
	Name  string // parts divided by slashes, the first the kind
	About string
	Disk  bool // on the disk that is measured; else in memory, if there is tmpfs
	Brief bool // part of -short
	Mode  Mode
	Run   func(ctx context.Context, e *Env, p Peer) ([]Metric, error)
	// Limit is what the machine allows, with a name. nil: none is known.
	Limit     func(ctx context.Context, e *Env) ([]Metric, error)
	LimitName string
	// Variants are measured instead of peers.
	Variants []Variant
}

// works are all, in the order of the table.
func works(o Options) []Work {
	var all []Work
	for _, some := range [][]Work{
		appendWorks(),
		latencyWorks(),
		syncWorks(),
		pipelineWorks(),
		replayWorks(),
		groupWorks(),
		producerWorks(),
		streamWorks(),
		roundTripWorks(),
		openWorks(),
		seekWorks(),
		memoryWorks(),
		scaleWorks(o),
		diskWorks(),
		floorWorks(),
	} {
		for _, w := range some {
			if o.selects(w) {
				all = append(all, w)
			}
		}
	}
	return all
}

// kind is the first part of the name.
func (w Work) kind() string {
	kind, _, _ := strings.Cut(w.Name, "/")
	return kind
}

// takesPart tells whether the peer has a row in the work, and if it has none for a
// reason that is to be told, the reason.
func (w Work) takesPart(p Peer) (row bool, reason string) {
	if p.Only != nil && !slices.Contains(p.Only, w.kind()) {
		return false, ""
	}
	if w.Run == nil {
		return false, ""
	}
	if p.Missing != nil {
		if why := p.Missing(); why != "" {
			return true, why
		}
	}
	if why := cmp.Or(p.Not[w.Name], p.Not[w.kind()]); why != "" {
		return true, why
	}
	if w.Mode.Sync && p.NotSynced != "" {
		return true, p.NotSynced
	}
	// How a log was filled does not matter to those who read it.
	if !w.Mode.Sync && p.NotUnsynced != "" && slices.Contains(unsyncedKinds, w.kind()) {
		return true, p.NotUnsynced
	}
	return true, ""
}

// unsyncedKinds are the works in which it matters that nothing is synced.
var unsyncedKinds = []string{"append", "latency", "producers", "stream", "roundtrip"}
