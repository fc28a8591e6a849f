package walq_test

import (
	"testing"

	"github.com/walq/walq"
)

// One consumer receives and acknowledges messages of 100 B one by one.
func BenchmarkGroupReceiveAck(b *testing.B) {
	q := open(b, newDir(b), walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}})
	bodies := make([][]byte, 1000)
	for i := range bodies {
		bodies[i] = make([]byte, 100)
	}
	for range b.N/len(bodies) + 1 {
		if _, err := q.AppendBatch(b.Context(), bodies...); err != nil {
			b.Fatal(err)
		}
	}
	g, err := q.Group("g", walq.GroupOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		d, err := g.Receive(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Ack(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := g.Close(); err != nil {
		b.Fatal(err)
	}
}
