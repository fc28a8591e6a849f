package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A Log is what one process recorded.
type Log struct {
	Name   string
	Events []Event
}

// Load reads a log. What stands behind the last newline is what a death left.
func Load(path string) (Log, error) {
	l := Log{Name: filepath.Base(path)}
	b, err := os.ReadFile(path)
	if err != nil {
		return l, err
	}
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return l, nil
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return l, fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		l.Events = append(l.Events, e)
		b = rest
	}
}

// LoadAll reads all logs in a directory.
func LoadAll(dir string) (all []Log, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(paths)
	for _, path := range paths {
		l, err := Load(path)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// A Message is one that the last reading found.
type Message struct {
	Seq  uint64
	Body string // its label
}

// A Final is what is in the queue when all is over.
type Final struct {
	First    uint64 // the oldest number that is kept; what lies below was trimmed
	Messages []Message
}
