package main

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// The text that the demo carries: from Isaac Newton, Opticks, fourth edition,
// 1730. It is in the public domain.
//
//go:embed opticks.txt
var opticks []byte

// A script is all that the processes of a demo must agree on. It lies in the
// demo's directory.
type script struct {
	Seed      uint64 `json:"seed"`
	Messages  int    `json:"messages"`
	Producers int    `json:"producers"`
	Consumers int    `json:"consumers"`

	dir   string
	lines [][]byte
}

const (
	scriptFile = "demo.json"
	inputFile  = "input.txt"
	queueDir   = "queue"
)

// endTopic marks the last message, which tells consumers to leave.
const endTopic = "the end"

// longestLine keeps a message well below the size of a segment; longer lines of
// an input are taken in pieces.
const longestLine = 16 << 10

func (s *script) queue() string          { return filepath.Join(s.dir, queueDir) }
func (s *script) ackedFile(p int) string { return filepath.Join(s.dir, fmt.Sprintf("acked-%d.txt", p)) }
func (s *script) seenFile(c int) string  { return filepath.Join(s.dir, fmt.Sprintf("seen-%d.txt", c)) }

// share is how many messages are producer p's. Producers count from 1.
func (s *script) share(p int) int {
	n := s.Messages / s.Producers
	if p <= s.Messages%s.Producers {
		n++
	}
	return n
}

// body is the nth message of producer p. The producers take turns with the lines
// of the text, and begin again at its end.
func (s *script) body(p, n int) []byte {
	line := s.lines[((n-1)*s.Producers+p-1)%len(s.lines)]
	return fmt.Appendf(nil, "producer %d line %d: %s", p, n, line)
}

// parseBody is the reverse, but for the text.
func parseBody(body []byte) (p, n int, ok bool) {
	head, _, ok := bytes.Cut(body, []byte(": "))
	if !ok {
		return 0, 0, false
	}
	words := bytes.Fields(head)
	if len(words) != 4 || string(words[0]) != "producer" || string(words[2]) != "line" {
		return 0, 0, false
	}
	p, perr := strconv.Atoi(string(words[1]))
	n, nerr := strconv.Atoi(string(words[3]))
	return p, n, perr == nil && nerr == nil
}

// write puts the script and the text that it needs into its directory.
func (s *script) write(input string) (err error) {
	text := io.Reader(bytes.NewReader(opticks))
	if input != "" {
		f, err := os.Open(input)
		if err != nil {
			return err
		}
		defer f.Close()
		text = f
	}
	if s.lines, err = readLines(text, s.Messages); err != nil {
		return err
	}
	if len(s.lines) == 0 {
		return fmt.Errorf("%s has no lines", input)
	}
	plan, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(s.dir, scriptFile), append(plan, '\n'), 0o600),
		os.WriteFile(filepath.Join(s.dir, inputFile), append(bytes.Join(s.lines, []byte{'\n'}), '\n'), 0o600))
}

// readScript finds the script in a demo's directory.
func readScript(dir string) (*script, error) {
	plan, err := os.ReadFile(filepath.Join(dir, scriptFile))
	if err != nil {
		return nil, err
	}
	s := &script{dir: dir}
	if err := json.Unmarshal(plan, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, scriptFile), err)
	}
	f, err := os.Open(filepath.Join(dir, inputFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if s.lines, err = readLines(f, s.Messages); err == nil && (len(s.lines) == 0 || s.Producers < 1) {
		err = fmt.Errorf("%s is not the directory of a demo", dir)
	}
	return s, err
}

// readLines reads at most so many lines.
func readLines(r io.Reader, most int) (lines [][]byte, err error) {
	b := bufio.NewReaderSize(r, longestLine)
	for len(lines) < most {
		part, err := b.ReadSlice('\n')
		if err == io.EOF && len(part) == 0 {
			return lines, nil
		}
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		lines = append(lines, bytes.Clone(bytes.TrimSuffix(part, []byte{'\n'})))
	}
	return lines, nil
}
