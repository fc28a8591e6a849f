package walq_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// publish appends messages whose bodies begin with their keys: "a1" has the key a, "1"
// none.
func publish(t testing.TB, q *walq.Queue, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		draft := walq.Draft{Key: []byte(keyOf(body)), Body: []byte(body)}
		if _, err := q.Publish(t.Context(), draft); err != nil {
			t.Fatal(err)
		}
	}
}

func keyOf(body string) string { return strings.TrimRight(body, "0123456789") }

// tryReceive wants a message with this body, or none if it is empty.
func tryReceive(t testing.TB, g *walq.Group, want string) *walq.Delivery {
	t.Helper()
	d, err := g.TryReceive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if d != nil {
		got = string(d.Body)
	}
	if got != want {
		t.Fatalf("received %q, want %q", got, want)
	}
	return d
}

func nak(t testing.TB, d *walq.Delivery, delay time.Duration) {
	t.Helper()
	if err := d.Nak(delay); err != nil {
		t.Fatal(err)
	}
}

var byKey = walq.GroupOptions{OrderedByKey: true}

func TestOneMessageOfAKeyIsInFlightAndTheOthersFlow(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1", "a2", "b1", "1", "b2", "a3", "2", "c1")
	one, other := newGroup(t, q, "g", byKey), newGroup(t, q, "g", walq.GroupOptions{})
	a1 := tryReceive(t, one, "a1")
	b1 := tryReceive(t, other, "b1")
	ack(t, tryReceive(t, one, "1"))
	two := tryReceive(t, other, "2")
	c1 := tryReceive(t, one, "c1")
	tryReceive(t, one, "")
	tryReceive(t, other, "")
	ack(t, two)
	ack(t, c1)
	tryReceive(t, other, "")
	ack(t, b1)
	b2 := tryReceive(t, one, "b2")
	ack(t, a1)
	a2 := tryReceive(t, other, "a2")
	tryReceive(t, one, "")
	nak(t, a2, 0) // it comes again before a3
	a2 = tryReceive(t, one, "a2")
	tryReceive(t, other, "")
	ack(t, a2)
	ack(t, tryReceive(t, other, "a3"))
	ack(t, b2)
	tryReceive(t, one, "")
	if got := drain(t, newGroup(t, q, "g", byKey)); len(got) > 0 {
		t.Errorf("there was more: %v", got)
	}
}

func TestAKeyThatIsEmptyOrAbsentWaitsForNone(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for _, d := range []walq.Draft{{}, {Key: []byte{}}, {Topic: "t"}, {Key: []byte{0}}, {Key: []byte{0}}, {}} {
		if _, err := q.Publish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	g := newGroup(t, q, "g", byKey)
	var got []walq.Seq
	for {
		d, err := g.TryReceive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			break
		}
		got = append(got, d.Seq)
	}
	if want := []walq.Seq{1, 2, 3, 4, 6}; !slices.Equal(got, want) {
		t.Errorf("in flight are %v, want %v: all but the second one of the key", got, want)
	}
}

func TestWhatIsSentBackWithADelayHoldsUpItsKeyOnly(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1", "a2", "b1", "b2")
	one, other := newGroup(t, q, "g", byKey), newGroup(t, q, "g", byKey)
	a1 := tryReceive(t, one, "a1")
	begun := time.Now()
	const delay = 300 * time.Millisecond
	nak(t, a1, delay)
	if got := drain(t, other); !slices.Equal(got, []string{"b1", "b2"}) && time.Since(begun) < delay {
		t.Errorf("meanwhile: got %v, want b1 and b2", got)
	}
	for _, want := range []string{"a1", "a2"} {
		d := receive(t, other)
		if took := time.Since(begun); string(d.Body) != want || took < delay {
			t.Errorf("got %q after %v, want %q after %v", d.Body, took, want, delay)
		}
		ack(t, d)
	}
}

func TestAMessageThatIsNotDueHoldsUpItsKeyOnly(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	ctx := t.Context()
	due := time.Now().Add(200 * time.Millisecond)
	for _, d := range []walq.Draft{
		{Key: []byte("a"), Body: []byte("a1"), NotBefore: due}, {Key: []byte("a"), Body: []byte("a2")}, {Key: []byte("b"), Body: []byte("b1")},
		{Key: []byte("c"), Body: []byte("c1"), Expire: time.Unix(1, 0)}, {Key: []byte("c"), Body: []byte("c2")}, // of no use any more
	} {
		if _, err := q.Publish(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	g := newGroup(t, q, "g", byKey)
	var got []string
	for range 4 {
		d := receive(t, g)
		if d.Key()[0] == 'a' && time.Now().Before(due) {
			t.Errorf("%q came before a1 is due", d.Body)
		}
		got = append(got, string(d.Body))
		ack(t, d)
	}
	i, j := slices.Index(got, "a1"), slices.Index(got, "a2")
	if i < 0 || j < i || !slices.Contains(got, "b1") || !slices.Contains(got, "c2") {
		t.Errorf("got %v, want b1, c2, and a1 before a2", got)
	}
}

func TestADeadLetterFreesItsKey(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	o := byKey
	o.MaxDeliver, o.DeadLetter = 2, filepath.Join(t.TempDir(), "dead")
	publish(t, q, "a1", "a2", "a3", "a4")
	one, other := newGroup(t, q, "g", o), newGroup(t, q, "g", o)
	for range 2 {
		d := tryReceive(t, one, "a1")
		tryReceive(t, other, "")
		nak(t, d, 0)
	}
	a2 := tryReceive(t, other, "a2") // a1 was given up on the way
	tryReceive(t, one, "")
	if err := a2.Term("no"); err != nil {
		t.Fatal(err)
	}
	ack(t, tryReceive(t, one, "a3"))
	ack(t, tryReceive(t, other, "a4"))
	all, err := q.Groups()
	if err != nil || all[0].DeadLettered != 2 || all[0].Lag != 0 || !all[0].OrderedByKey {
		t.Errorf("got %+v, %v, want two given up and none left", all, err)
	}
}

func TestALeaseThatEndsHoldsUpItsKeyUntilItIsHandedOutAgain(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	o := byKey
	o.Lease = 100 * time.Millisecond
	publish(t, q, "a1", "a2")
	g := newGroup(t, q, "g", o)
	slow := tryReceive(t, g, "a1")
	again := receive(t, g)
	if string(again.Body) != "a1" || again.Attempt() != 2 {
		t.Fatalf("got %q, attempt %d, want a1 again", again.Body, again.Attempt())
	}
	if err := slow.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("the late one: %v", err)
	}
	if err := again.Extend(time.Hour); err != nil {
		t.Fatal(err)
	}
	tryReceive(t, g, "")
	ack(t, again)
	ack(t, tryReceive(t, g, "a2"))
}

// What waits for its key is in the window: behind it nothing is handed out.
func TestABusyKeyCanFillTheWindow(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	o := byKey
	o.Window = 3
	publish(t, q, "a1", "a2", "a3", "b1", "a4", "a5", "b2")
	one, other := newGroup(t, q, "g", o), newGroup(t, q, "g", o)
	a1 := tryReceive(t, one, "a1")
	tryReceive(t, one, "")
	tryReceive(t, other, "")
	ack(t, a1)
	a2 := tryReceive(t, other, "a2")
	b1 := tryReceive(t, one, "b1")
	tryReceive(t, other, "")
	ack(t, a2)
	a3 := tryReceive(t, one, "a3")
	tryReceive(t, one, "")
	ack(t, b1)
	ack(t, a3)
	if got := drain(t, other); len(got) != 3 || slices.Index(got, "a4") > slices.Index(got, "a5") {
		t.Errorf("then: got %v, want a4 before a5, and b2", got)
	}
}

func TestAGroupIsOrderedByKeyFromTheBeginningOrNever(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	if _, err := q.Group("both", walq.GroupOptions{Ordered: true, OrderedByKey: true}); err == nil {
		t.Error("a group is ordered as a whole and by key")
	}
	newGroup(t, q, "plain", walq.GroupOptions{})
	if _, err := q.Group("plain", byKey); err == nil || !strings.Contains(err.Error(), "ordered by key") {
		t.Errorf("a plain group by key: got %v", err)
	}
	newGroup(t, q, "keys", byKey)
	if _, err := q.Group("keys", walq.GroupOptions{Ordered: true}); err == nil || !strings.Contains(err.Error(), "ordered by key") {
		t.Errorf("one by key as a whole: got %v", err)
	}
	publish(t, q, "a1", "a2")
	g := newGroup(t, q, "keys", walq.GroupOptions{}) // takes what is stored
	d := tryReceive(t, g, "a1")
	tryReceive(t, g, "")
	ack(t, d)
}

// What is known of keys is made anew with another base, and where the walk jumps.
func TestKeysAreCountedAnewAfterAResetAndAfterAJump(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1", "a2", "b1")
	one, other := newGroup(t, q, "g", byKey), newGroup(t, q, "g", byKey)
	ack(t, tryReceive(t, one, "a1"))
	a2 := tryReceive(t, one, "a2")
	b1 := tryReceive(t, other, "b1")
	if err := q.ResetGroup(t.Context(), "g", walq.Oldest); err != nil {
		t.Fatal(err)
	}
	a1 := tryReceive(t, other, "a1")
	if err := a2.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("a2, of the former base: %v", err)
	}
	if err := b1.Nak(0); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("b1, of the former base: %v", err)
	}
	ack(t, tryReceive(t, one, "b1"))
	tryReceive(t, one, "")
	ack(t, a1)
	ack(t, tryReceive(t, one, "a2"))

	// The other one falls behind by more than it steps over one by one.
	const many = 1500
	for i := range many {
		publish(t, q, fmt.Sprint(string(rune('a'+i%5)), i))
	}
	if got := drain(t, one); len(got) != many {
		t.Fatalf("got %d messages, want %d", len(got), many)
	}
	publish(t, q, "a1", "a2", "b1")
	a1 = tryReceive(t, one, "a1")
	ack(t, tryReceive(t, other, "b1"))
	tryReceive(t, other, "")
	ack(t, a1)
	ack(t, tryReceive(t, other, "a2"))
}

// judgeKeys notes what of each key is at work, and complains.
type judgeKeys struct {
	t       *testing.T
	mu      sync.Mutex
	at      map[string]string
	last    map[string]walq.Seq
	done    int
	tooMany int
}

func newJudge(t *testing.T) *judgeKeys {
	return &judgeKeys{t: t, at: map[string]string{}, last: map[string]walq.Seq{}}
}

func (j *judgeKeys) begin(d *walq.Delivery) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := string(d.Key())
	if key == "" {
		return
	}
	if other := j.at[key]; other != "" {
		j.t.Errorf("%s was handed out while %s was at work", d.Body, other)
	}
	if d.Seq <= j.last[key] {
		j.t.Errorf("%s (%d) was handed out after %d was finished", d.Body, d.Seq, j.last[key])
	}
	j.at[key] = string(d.Body)
}

// end comes before the lease ends. finished: and the message is done with.
func (j *judgeKeys) end(d *walq.Delivery, finished bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	key := string(d.Key())
	delete(j.at, key)
	if finished {
		j.last[key] = d.Seq
		j.done++
	}
}

func (j *judgeKeys) finished() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done
}

// Handles of the queue come and go while they have work in hand, and messages are sent
// back: of each key one at a time is handed out, in order.
func TestTheMessagesOfAKeyStayInOrderWhateverBecomesOfTheirConsumers(t *testing.T) {
	const count, keys, handles = 1500, 7, 3
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	seed := testx.Seed(t)
	j := newJudge(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	o := byKey
	o.Window = 63
	newGroup(t, q, "g", o) // so that all agree
	var all sync.WaitGroup
	for i := range handles {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil && j.finished() < count {
				if err := consumeAWhile(ctx, dir, j, random, count); err != nil {
					t.Error(err)
					cancel()
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(seed, 99))
	for i := range count {
		key := string(rune('a' + random.IntN(keys+1)))
		if key == string(rune('a'+keys)) {
			key = ""
		}
		publish(t, q, fmt.Sprint(key, i))
	}
	all.Wait()
	if j.finished() != count {
		t.Errorf("%d messages were finished, want %d", j.finished(), count)
	}
}

// consumeAWhile works with a handle of its own, and leaves with messages in hand.
func consumeAWhile(ctx context.Context, dir string, j *judgeKeys, random *rand.Rand, count int) (err error) {
	q, err := walq.Open(ctx, dir, walq.Options{Durability: walq.SyncNever})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	g, err := q.Group("g", walq.GroupOptions{})
	if err != nil {
		return err
	}
	var held []*walq.Delivery
	for range random.IntN(200) {
		if len(held) < 5 {
			short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
			d, err := g.Receive(short)
			cancel()
			switch {
			case err == nil:
				j.begin(d)
				held = append(held, d)
			case !errors.Is(err, context.DeadlineExceeded):
				return err
			case j.finished() == count:
				return nil
			}
		}
		if len(held) == 0 {
			continue
		}
		i := random.IntN(len(held))
		d := held[i]
		held = slices.Delete(held, i, i+1)
		what := random.IntN(10)
		j.end(d, what > 2)
		switch what {
		case 0:
			err = d.Nak(0)
		case 1:
			err = d.Nak(time.Millisecond)
		case 2:
			err = d.Nak(10 * time.Millisecond)
		case 3:
			err = d.Term("enough")
		default:
			err = d.Ack()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", d.Body, err)
		}
	}
	for _, d := range held { // closing gives them back
		j.end(d, false)
	}
	return nil
}

// Somebody asleep is told when the key is free, which they cannot see themselves.
func TestWhoWaitsForAKeyIsWoken(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	other := open(t, dir, walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1", "a2", "a3", "a4")
	g := newGroup(t, q, "g", byKey)
	waiter := newGroup(t, other, "g", walq.GroupOptions{})
	for _, want := range []string{"a2", "a3", "a4"} {
		d := receive(t, g)
		got := make(chan string, 1)
		go func() {
			d, err := waiter.Receive(t.Context())
			if err != nil {
				got <- err.Error()
				return
			}
			got <- string(d.Body)
			_ = d.Nak(0)
		}()
		time.Sleep(20 * time.Millisecond) // so that it most likely sleeps
		ack(t, d)
		select {
		case body := <-got:
			if body != want {
				t.Errorf("got %q, want %q", body, want)
			}
		case <-time.After(patience):
			t.Fatalf("nobody got %q", want)
		}
	}
}
