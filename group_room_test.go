package walq_test

import (
	"runtime"
	"testing"
	"weak"

	"github.com/walq/walq"
)

// Small deliveries share allocations. Who keeps one of a large message must not keep the
// bodies of others with it, nor may the group.
func TestALargeMessageIsKeptByItsOwnDeliveryOnly(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	const n, size = 60, 10_000
	for range n {
		if _, err := q.Append(t.Context(), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	g := newGroup(t, q, "g", walq.GroupOptions{})
	var kept *walq.Delivery
	var bodies []weak.Pointer[byte]
	for i := range n {
		d := receive(t, g)
		ack(t, d)
		if i == n/2 {
			kept = d
		} else {
			bodies = append(bodies, weak.Make(&d.Body[0]))
		}
	}
	runtime.GC()
	left := 0
	for _, p := range bodies {
		if p.Value() != nil {
			left++
		}
	}
	if left > 1 { // a register or a stack slot may hold the last one
		t.Errorf("%d bodies of finished messages are kept, want none", left)
	}
	runtime.KeepAlive(kept)
}
