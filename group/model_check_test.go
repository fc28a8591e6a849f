//go:build !race && !walqsteps

package group

import (
	"fmt"
	"hash/maphash"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// modelSeen holds all states that were reached, in the order of breadth-first search, with
// the step that first led to each. A Go map would take twice the memory.
type modelSeen struct {
	seed   maphash.Seed
	chunks [][]modelState
	parent []int32
	table  []int32
}

const modelChunk = 1 << 14

func (v *modelSeen) len() int { return len(v.parent) }

func (v *modelSeen) state(id int32) *modelState { return &v.chunks[id/modelChunk][id%modelChunk] }

func (v *modelSeen) add(s *modelState, parent int32) int32 {
	if 2*v.len() >= len(v.table) {
		v.grow()
	}
	slot := v.slot(s)
	if v.table[slot] != 0 {
		return v.table[slot] - 1
	}
	id := int32(v.len())
	if id%modelChunk == 0 {
		v.chunks = append(v.chunks, make([]modelState, 0, modelChunk))
	}
	last := &v.chunks[len(v.chunks)-1]
	*last = append(*last, *s)
	v.parent = append(v.parent, parent)
	v.table[slot] = id + 1
	return id
}

func (v *modelSeen) slot(s *modelState) uint64 {
	mask := uint64(len(v.table) - 1)
	slot := maphash.Comparable(v.seed, *s) & mask
	for v.table[slot] != 0 && *v.state(v.table[slot] - 1) != *s {
		slot = (slot + 1) & mask
	}
	return slot
}

func (v *modelSeen) grow() {
	v.table = make([]int32, max(1<<12, 2*len(v.table)))
	for id := range int32(v.len()) {
		v.table[v.slot(v.state(id))] = id + 1
	}
}

// canonical names the consumers anew, in an order of what they do: which of the equal
// processes does what makes no difference. order tells who they were.
func (m *ringModel) canonical(s *modelState) (order [modelMaxConsumers]uint8) {
	order = [modelMaxConsumers]uint8{0, 1, 2}
	var keys [modelMaxConsumers][2]uint64
	sorted := true
	for i := range int(m.consumers) {
		keys[i] = s.consumers[i].key()
		for j := i; j > 0 && modelKeyLess(keys[j], keys[j-1]); j-- {
			keys[j], keys[j-1] = keys[j-1], keys[j]
			order[j], order[j-1] = order[j-1], order[j]
			sorted = false
		}
	}
	if sorted {
		return order
	}
	old := s.consumers
	var slot [modelMaxConsumers + 1]uint8
	for to, from := range order {
		s.consumers[to] = old[from]
		slot[from+1] = uint8(to) + 1
	}
	rename := func(w *modelWord) { w.owner = w.owner&^3 | slot[w.owner&3] }
	for i := range s.ring {
		rename(&s.ring[i].w0)
	}
	for i := range s.consumers {
		rename(&s.consumers[i].word)
	}
	rename(&s.rebaser.word)
	return order
}

func (c *modelConsumer) key() [2]uint64 {
	a, b := uint64(0), uint64(0)
	for _, x := range [...]uint8{c.at, c.life, c.gen, c.n, c.place, c.k, c.floor, c.raiseTo} {
		a = a<<8 | uint64(x)
	}
	for _, x := range [...]uint8{c.word.state, c.word.lap, c.w1.lap, c.w1.distance, c.w2.lap, c.w2.delivered, c.passed.gen, c.passed.place} {
		b = b<<8 | uint64(x)
	}
	return [2]uint64{a, b}
}

func modelKeyLess(a, b [2]uint64) bool { return a[0] < b[0] || a[0] == b[0] && a[1] < b[1] }

// explore returns the number of states and the first thing that is wrong, with the
// shortest way to it, or "".
func (m *ringModel) explore(t *testing.T, limit int) (states int, wrong string) {
	t.Helper()
	v := &modelSeen{seed: maphash.MakeSeed()}
	s := m.start()
	m.canonical(&s)
	v.add(&s, -1)
	var edges, first []int32
	for id := int32(0); int(id) < v.len(); id++ {
		if v.len() > limit {
			t.Fatalf("more than %d states: the bounds are too wide", limit)
		}
		first = append(first, int32(len(edges)))
		for _, step := range m.expand(v.state(id)) {
			if step.wrong != "" {
				return v.len(), step.wrong + m.trace(v, id, step.wrong)
			}
			m.canonical(&step.next)
			edges = append(edges, v.add(&step.next, id))
		}
	}
	if id := m.stuck(v, append(first, int32(len(edges))), edges); id >= 0 {
		return v.len(), "not all can be finished any more, or not everyone comes to the end" + m.trace(v, id, "")
	}
	return v.len(), ""
}

// stuck returns the first state from which no settled one can be reached, or -1. It goes
// through the states backwards until nothing changes: most steps lead to later ones.
func (m *ringModel) stuck(v *modelSeen, first, edges []int32) int32 {
	good := make([]bool, v.len())
	for changed := true; changed; {
		changed = false
		for id := int32(v.len()) - 1; id >= 0; id-- {
			if good[id] {
				continue
			}
			good[id] = m.settled(v.state(id))
			for _, to := range edges[first[id]:first[id+1]] {
				good[id] = good[id] || good[to]
			}
			changed = changed || good[id]
		}
	}
	for id, ok := range good {
		if !ok {
			return int32(id)
		}
	}
	return -1
}

// trace tells the way to a state, and the step there that is wrong. A consumer keeps its
// name on the way, whatever slot it has in the states.
func (m *ringModel) trace(v *modelSeen, id int32, wrong string) string {
	way := []int32{id}
	for ; id > 0; id = v.parent[id] {
		way = append(way, v.parent[id])
	}
	slices.Reverse(way)
	var b strings.Builder
	names := [modelMaxConsumers]string{"A", "B", "C"}
	for i, id := range way {
		for _, step := range m.expand(v.state(id)) {
			order := m.canonical(&step.next)
			last := i+1 == len(way)
			if last && (wrong == "" || step.wrong != wrong) || !last && step.next != *v.state(way[i+1]) {
				continue
			}
			who := "the rebaser"
			if step.who >= 0 {
				who = names[step.who]
			}
			fmt.Fprintf(&b, "\n  %s: %s", who, step.what)
			old := names
			for to, from := range order {
				names[to] = old[from]
			}
			break
		}
	}
	s := v.state(way[len(way)-1])
	fmt.Fprintf(&b, "\n  the floor %d, passed %v, generation %d, the ring %+v", s.floor, s.passed, s.gen, s.ring[:m.window])
	return b.String()
}

// modelLimit bounds the states of an exploration, which take some 200 bytes each.
const modelLimit = 2_000_000

// TestModelOfTheRing explores the protocol. With WALQ_MODEL=big it takes a minute of one
// core, or two, and 3 GiB.
func TestModelOfTheRing(t *testing.T) {
	cases := []struct {
		name string
		modelConfig
	}{
		{"one at work", modelConfig{window: 2, consumers: 2, log: "xxxx", deaths: 1, expiries: 1, naks: 1}},
		{"two at work", modelConfig{window: 3, consumers: 2, log: "xxxx", deaths: 1, expiries: 1}},
		{"three consumers", modelConfig{window: 2, consumers: 3, log: "xx", deaths: 1, expiries: 1}},
		{"three consumers, two at work", modelConfig{window: 3, consumers: 3, log: "xxx"}},
		{"waiting", modelConfig{window: 2, consumers: 2, log: "xxx", deaths: 1, expiries: 1, naks: 1, delay: true}},
		{"other topics", modelConfig{window: 2, consumers: 2, log: ".x.x.", deaths: 1, expiries: 1, pass: true}},
		{"rewind", modelConfig{window: 2, consumers: 2, log: "xx", deaths: 1, expiries: 1, rebases: 1}},
		{"rewind a ring that goes on", modelConfig{window: 2, consumers: 2, log: "xxxxxx", rebases: 1}},
		{"rewind twice", modelConfig{window: 2, consumers: 2, log: "xx", rebases: 2}},
		{"rewind over other topics", modelConfig{window: 2, consumers: 2, log: "x.x.", expiries: 1, rebases: 1, pass: true}},
		{"to a later place", modelConfig{window: 2, consumers: 2, log: "xxx", deaths: 1, rebases: 1, rebaseTo: 1}},
		{"to a later place, two at work", modelConfig{window: 3, consumers: 2, log: "xxxx", rebases: 1, rebaseTo: 1}},
	}
	limit := modelLimit
	cases = append(cases, []struct {
		name string
		modelConfig
	}{
		{"a walk that is behind, and a rewind", modelConfig{window: 2, consumers: 2, log: "xxx", rebases: 1, behind: true}},
		{"what was finished is marked by makers that die", modelConfig{window: 3, consumers: 1, log: "xxx", deaths: 2, rebases: 1, rebaseTo: 1, marks: true}},
	}...)
	if os.Getenv("WALQ_MODEL") == "big" {
		limit = math.MaxInt32
		for i := range cases {
			cases[i].expiries++
		}
		cases[0].deaths, cases[0].expiries = 2, 3
		cases[2].log = "xxx"
		cases[6].deaths, cases[6].expiries = 2, 0
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := &ringModel{modelConfig: c.modelConfig}
			states, wrong := m.explore(t, limit)
			t.Logf("%d states", states)
			if wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// TestModelOfTheRingFindsPlantedFaults plants one mistake at a time. Without it, the same
// bounds would be explored without a complaint.
func TestModelOfTheRingFindsPlantedFaults(t *testing.T) {
	plain := modelConfig{window: 2, consumers: 2, log: "xxx"}
	death := modelConfig{window: 2, consumers: 2, log: "xxx", deaths: 1}
	topics := modelConfig{window: 2, consumers: 2, log: ".x.x.", pass: true}
	rewind := modelConfig{window: 2, consumers: 2, log: "xxx", rebases: 1, pass: true}
	cases := []struct {
		name  string
		fault modelFault
		modelConfig
	}{
		{"w1 stored", faultStoreW1, modelConfig{window: 2, consumers: 2, log: "xxx", deaths: 1, expiries: 1}},
		{"w1 without a lap", faultNoLap, death},
		{"no look at the window", faultNoWindow, plain},
		{"finish stores", faultStoreFinish, modelConfig{window: 2, consumers: 2, log: "xx", expiries: 1}},
		{"floor before passed", faultFloorFirst, topics},
		{"join with any lap", faultAnyLap, plain},
		{"passed without a generation", faultNoGen, rewind},
		{"base one lap on", faultNearBase, rewind},
		{"generation before the reset", faultEarlyGen, rewind},
		{"take what w1 tells", faultTakeW1, death},
		{"the entry before the floor claimed", faultFullWindow, death},
		{"w1 loaded after the swap", faultLateW1, modelConfig{window: 2, consumers: 2, log: "xxx", deaths: 1, expiries: 1, naks: 1}},
		{"w1 swapped once", faultOnceW1, modelConfig{window: 2, consumers: 2, log: "xx", deaths: 1, rebases: 1}},
		{"w2 swapped once", faultOnceW2, modelConfig{window: 2, consumers: 2, log: "xx", expiries: 1, naks: 1, delay: true}},
		{"base by the floor only", faultFloorOnly, modelConfig{window: 2, consumers: 2, log: "xxxxxx", rebases: 1}},
		{"reset to the next lap", faultNextLap, rewind},
		{"generation looked at once", faultJoinOnce, rewind},
		{"led on by the next base's floor", faultLedOn, modelConfig{window: 2, consumers: 2, log: "xxxxxx", rebases: 1, behind: true}},
		{"marks read by the base in force", faultMarksByForce, modelConfig{window: 3, consumers: 1, log: "xxx", deaths: 1, rebases: 1, rebaseTo: 1, marks: true}},
		{"marks that stay", faultMarksStay, modelConfig{window: 3, consumers: 1, log: "xxx", deaths: 2, rebases: 1, rebaseTo: 1, marks: true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := &ringModel{modelConfig: c.modelConfig, fault: c.fault}
			states, wrong := m.explore(t, modelLimit)
			if wrong == "" {
				t.Fatalf("not found in %d states", states)
			}
			sound := &ringModel{modelConfig: c.modelConfig}
			if _, wrong := sound.explore(t, modelLimit); wrong != "" {
				t.Errorf("found without the fault: %s", wrong)
			}
			t.Logf("%d states: %s", states, wrong)
		})
	}
}
