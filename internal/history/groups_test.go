package history

import (
	"strings"
	"testing"
	"time"
)

const second = time.Second

// calls gives each call its place: one after the other, unless At says where.
func calls(all ...GroupCall) []GroupCall {
	for i := range all {
		if all[i].Call == 0 {
			all[i].Call, all[i].Return = int64(10*i+10), int64(10*i+15)
		}
		all[i].To = max(all[i].To, all[i].From)
	}
	return all
}

func appended(seq uint64) GroupCall { return GroupCall{Kind: GroupAppended, Seq: seq} }

// received is message seq, by a lease of 10 s.
func received(at time.Duration, seq uint64, delivery, attempt int) GroupCall {
	return GroupCall{Client: delivery, Kind: GroupReceived, Seq: seq, Delivery: delivery, Attempt: attempt, Lease: 10 * second, From: at}
}

func did(kind GroupKind, at time.Duration, seq uint64, delivery int) GroupCall {
	return GroupCall{Client: delivery, Kind: kind, Seq: seq, Delivery: delivery, From: at}
}

func lost(c GroupCall) GroupCall { c.Lost = true; return c }

func delayed(c GroupCall, by time.Duration) GroupCall { c.Delay = by; return c }

func leased(c GroupCall, by time.Duration) GroupCall { c.Lease = by; return c }

func between(c GroupCall, call, ret int64) GroupCall { c.Call, c.Return = call, ret; return c }

var (
	apart = [][]uint64{{1}, {2}, {3}}
	lane  = [][]uint64{{1, 2, 3}}
)

func TestWhatAGroupMayAnswerIsAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		lanes [][]uint64
		calls []GroupCall
	}{
		"in any order": {apart, calls(appended(1), appended(2), received(0, 2, 1, 1), received(0, 1, 2, 1),
			did(GroupFinished, 1, 1, 2), did(GroupFinished, 1, 2, 1), did(GroupDone, 2, 1, 0), did(GroupDone, 2, 2, 0))},
		"after its lease": {apart, calls(appended(1), received(0, 1, 1, 1), received(10*second, 1, 2, 2), lost(did(GroupFinished, 11*second, 1, 1)),
			lost(did(GroupSentBack, 11*second, 1, 1)), lost(did(GroupExtended, 11*second, 1, 1)), did(GroupFinished, 12*second, 1, 2), did(GroupDone, 20*second, 1, 0))},
		"late, and nobody took it":             {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupFinished, 99*second, 1, 1))},
		"taken from it, and nobody has it yet": {apart, calls(appended(1), received(0, 1, 1, 1), lost(did(GroupFinished, 10*second, 1, 1)), received(11*second, 1, 2, 2))},
		"after its delay":                      {apart, calls(appended(1), received(0, 1, 1, 1), delayed(did(GroupSentBack, 0, 1, 1), 50*second), received(50*second, 1, 2, 2))},
		"its consumer is gone":                 {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupGone, 1, 1, 1), received(2, 1, 2, 2))},
		"extended":                             {apart, calls(appended(1), received(0, 1, 1, 1), leased(did(GroupExtended, 5*second, 1, 1), 20*second), received(25*second, 1, 2, 2))},
		"received before the append returned":  {apart, calls(between(appended(1), 10, 100), received(0, 1, 1, 1))},
		"at once, and one was first": {apart, calls(appended(1), received(0, 1, 1, 1), between(lost(did(GroupFinished, 10*second, 1, 1)), 30, 50),
			between(received(10*second, 1, 2, 2), 31, 40), between(did(GroupFinished, 11*second, 1, 2), 60, 70))},
		"in order": {lane, calls(appended(1), appended(2), received(0, 1, 1, 1), did(GroupFinished, 1, 1, 1), received(2, 2, 2, 1), did(GroupFinished, 3, 2, 2))},
	} {
		if err := GroupLinear(c.lanes, c.calls, patience); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatNoGroupMayAnswerIsRejected(t *testing.T) {
	for name, c := range map[string]struct {
		lanes [][]uint64
		calls []GroupCall
	}{
		"before it was appended":        {apart, calls(received(0, 1, 1, 1), appended(1))},
		"to two at once":                {apart, calls(appended(1), received(0, 1, 1, 1), received(9*second, 1, 2, 2))},
		"before its delay is over":      {apart, calls(appended(1), received(0, 1, 1, 1), delayed(did(GroupSentBack, 0, 1, 1), 50*second), received(49*second, 1, 2, 2))},
		"before what it was extended":   {apart, calls(appended(1), received(0, 1, 1, 1), leased(did(GroupExtended, 5*second, 1, 1), 20*second), received(24*second, 1, 2, 2))},
		"after it was finished":         {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupFinished, 1, 1, 1), received(99*second, 1, 2, 2))},
		"finished twice":                {apart, calls(appended(1), received(0, 1, 1, 1), received(10*second, 1, 2, 2), did(GroupFinished, 11*second, 1, 1), did(GroupFinished, 11*second, 1, 2))},
		"finished by who lost it":       {apart, calls(appended(1), received(0, 1, 1, 1), received(10*second, 1, 2, 2), did(GroupFinished, 11*second, 1, 1))},
		"finished by who sent it back":  {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupSentBack, 1, 1, 1), did(GroupFinished, 2, 1, 1))},
		"extended by who lost it":       {apart, calls(appended(1), received(0, 1, 1, 1), received(10*second, 1, 2, 2), did(GroupExtended, 11*second, 1, 1))},
		"lost, and it was not":          {apart, calls(appended(1), received(0, 1, 1, 1), lost(did(GroupFinished, 1, 1, 1)))},
		"taken from it before its time": {apart, calls(appended(1), received(0, 1, 1, 1), lost(did(GroupFinished, 9*second, 1, 1)))},
		"lost, and then it was not":     {apart, calls(appended(1), received(0, 1, 1, 1), lost(did(GroupExtended, 11*second, 1, 1)), did(GroupFinished, 11*second, 1, 1))},
		"the wrong count":               {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupSentBack, 1, 1, 1), received(2, 1, 2, 3))},
		"never finished":                {apart, calls(appended(1), received(0, 1, 1, 1), did(GroupDone, 99*second, 1, 0))},
		"never handed out":              {apart, calls(appended(1), did(GroupDone, 99*second, 1, 0))},
		"at once, and both were first": {apart, calls(appended(1), received(0, 1, 1, 1), between(did(GroupFinished, 10*second, 1, 1), 30, 50),
			between(received(10*second, 1, 2, 2), 31, 40), between(did(GroupFinished, 11*second, 1, 2), 60, 70))},
		"out of order":                 {lane, calls(appended(1), appended(2), received(0, 2, 1, 1))},
		"the next before this is done": {lane, calls(appended(1), appended(2), received(0, 1, 1, 1), received(1, 2, 2, 1))},
		"a message that nobody has":    {apart, calls(appended(9))},
	} {
		if err := GroupLinear(c.lanes, c.calls, patience); err == nil || strings.Contains(err.Error(), "no answer") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
