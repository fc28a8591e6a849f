package walq

import (
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// A deliveryRoom allocates small deliveries, and their bytes, many at once. How many
// doubles from one, so that who receives little allocates little.
type deliveryRoom struct {
	free    []Delivery
	freeFor int    // so many were allocated last
	bytes   []byte // as allocated last
	used    int    // of bytes
}

const (
	// mostAtOnce deliveries fill an allocation of 2 KiB.
	mostAtOnce = 17
	// leastBytes to mostBytes are allocated at once for messages that are small.
	leastBytes = 512
	mostBytes  = 8 << 10
	small      = mostBytes / 8
)

// delivery is a new one.
func (r *deliveryRoom) delivery() (d *Delivery) {
	if len(r.free) == 0 {
		r.freeFor = min(max(2*r.freeFor, 1), mostAtOnce)
		r.free = make([]Delivery, r.freeFor)
	}
	d, r.free = &r.free[0], r.free[1:]
	return d
}

// grow allocates anew if n bytes, which are small, have no room.
func (r *deliveryRoom) grow(n int) {
	if n > len(r.bytes)-r.used {
		r.bytes = make([]byte, min(max(2*len(r.bytes), leastBytes, 2*n), mostBytes))
		r.used = 0
	}
}

// copy gives a copy of a message's body and metadata behind one another.
func (r *deliveryRoom) copy(m *wal.Message) (p []byte) {
	n := len(m.Body) + len(m.Meta)
	if n > small {
		p = make([]byte, n)
	} else {
		r.grow(n)
		p = r.bytes[r.used : r.used+n : r.used+n]
		r.used += n
	}
	copy(p[copy(p, m.Body):], m.Meta)
	return p
}

// delivery makes a delivery of a message whose body, of so many bytes, and metadata
// are p.
func (g *Group) delivery(lease group.Lease, seq uint64, unixNano int64, p []byte, body int) *Delivery {
	var d *Delivery
	if len(p) > small {
		d = new(Delivery) // who keeps another one must not keep p with it
	} else {
		d = g.room.delivery()
	}
	d.Seq, d.Time, d.Body = Seq(seq), time.Unix(0, unixNano), p[:body:body]
	if body < len(p) {
		d.owned = p[body:]
		d.at = &d.owned
	}
	d.lessor, d.lease = g.walk.from, lease
	return d
}
