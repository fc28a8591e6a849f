//go:build walqsteps

package step

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func init() {
	orders, err := parse(os.Getenv("WALQ_STEP"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "step: WALQ_STEP: %v\n", err)
		os.Exit(2)
	}
	for id, o := range orders {
		Set(id, o.passage)
	}
}

// An order is what the environment asks of one passage of a step.
type order struct {
	nth int64 // counted from 1
	act func() error
}

// orders are those of one step, with the count of its passages.
type orders struct {
	list   []order
	passed atomic.Int64
}

// passage counts a passage and does what is asked of it, up to the first error.
func (o *orders) passage() error {
	n := o.passed.Add(1)
	for _, ord := range o.list {
		if ord.nth != n {
			continue
		}
		if err := ord.act(); err != nil {
			return err
		}
	}
	return nil
}

// parse reads the value of WALQ_STEP.
func parse(value string) (map[ID]*orders, error) {
	all := make(map[ID]*orders)
	if value == "" {
		return all, nil
	}
	for _, entry := range strings.Split(value, ",") {
		id, ord, err := parseEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		if all[id] == nil {
			all[id] = new(orders)
		}
		all[id].list = append(all[id].list, ord)
	}
	return all, nil
}

// parseEntry reads ID[:N]=action.
func parseEntry(entry string) (ID, order, error) {
	place, action, ok := strings.Cut(entry, "=")
	if !ok {
		return 0, order{}, errors.New("want ID[:N]=action")
	}
	name, passage, counted := strings.Cut(place, ":")
	id, err := parseID(name)
	if err != nil {
		return 0, order{}, err
	}
	ord := order{nth: 1}
	if counted {
		ord.nth, err = strconv.ParseInt(passage, 10, 64)
		if err != nil || ord.nth < 1 {
			return 0, order{}, fmt.Errorf("%q is no count of passages", passage)
		}
	}
	ord.act, err = parseAction(action)
	return id, ord, err
}

// parseID reads a step's name or number.
func parseID(s string) (ID, error) {
	for _, id := range IDs() {
		if s == id.String() || s == strconv.Itoa(int(id)) {
			return id, nil
		}
	}
	return 0, fmt.Errorf("%q is no step", s)
}

// parseAction reads what is to be done.
func parseAction(s string) (func() error, error) {
	switch s {
	case "kill":
		return killSelf, nil
	case "stop":
		return stopSelf, nil
	case "exit":
		return func() error { os.Exit(ExitStatus); return nil }, nil
	case "eio":
		return func() error { return syscall.EIO }, nil
	case "enospc":
		return func() error { return syscall.ENOSPC }, nil
	}
	if d, ok := strings.CutPrefix(s, "sleep="); ok {
		pause, err := time.ParseDuration(d)
		return func() error { time.Sleep(pause); return nil }, err
	}
	return nil, fmt.Errorf("%q is no action", s)
}
