package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/walq/walq/internal/testx"
)

// visible calls f for each command that help shows.
func visible(t *testing.T, f func(cmd *cobra.Command)) {
	t.Helper()
	root, count := newRoot(), 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		count++
		f(cmd)
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	if count < 11 {
		t.Errorf("only %d commands were looked at", count)
	}
}

func TestHelpOfEveryCommandIsAManualPage(t *testing.T) {
	visible(t, func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" || cmd.Example == "" {
			t.Errorf("%s: a description or an example is missing", cmd.CommandPath())
		}
		page := must(t, "", append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		rest := page
		for _, part := range []string{strings.TrimSpace(cmd.Long), "\nUsage:\n  walq", "\nFlags:\n", "\nExit status:\n  0    ", "\nExamples:\n  "} {
			_, behind, ok := strings.Cut(rest, part)
			if !ok {
				t.Errorf("%s --help: no %q in its place\n%s", cmd.CommandPath(), part, page)
				return
			}
			rest = behind
		}
		if !strings.Contains(rest, cmd.CommandPath()) && cmd.HasParent() {
			t.Errorf("%s: the examples do not show it", cmd.CommandPath())
		}
		takes := strings.Contains(cmd.Use, " ")
		if has := strings.Contains(page, "\nArguments:\n  "); has != takes {
			t.Errorf("%s: arguments explained: %v, taken: %v", cmd.CommandPath(), has, takes)
		}
		for line := range strings.Lines(page) {
			if n := len(strings.TrimRight(line, "\n")); n > 150 {
				t.Errorf("%s: a line of %d bytes: %s", cmd.CommandPath(), n, line)
			}
		}
	})
}

func TestEachFlagSaysWhatItIsWithoutIt(t *testing.T) {
	line := regexp.MustCompile(`^ +(?:-\w, )?--([\w-]+)(?: (\S+))? +(.*)$`)
	count := 0
	visible(t, func(cmd *cobra.Command) {
		usages := cmd.LocalFlags().FlagUsages()
		for text := range strings.Lines(usages) {
			m := line.FindStringSubmatch(strings.TrimRight(text, "\n"))
			if m == nil || m[3] == "" {
				t.Errorf("%s: a flag says nothing: %q", cmd.CommandPath(), text)
				continue
			}
			if takesValue := m[2] != ""; takesValue {
				if count++; !strings.Contains(m[3], "(default") {
					t.Errorf("%s --%s: no default in %q", cmd.CommandPath(), m[1], m[3])
				}
			}
		}
	})
	if count < 30 {
		t.Errorf("only %d flags with a value were found", count)
	}
}

func TestEveryExampleCanBeTyped(t *testing.T) {
	count := 0
	visible(t, func(cmd *cobra.Command) {
		for line := range strings.Lines(cmd.Example) {
			for _, args := range calls(line) {
				count++
				parse(t, args)
			}
		}
	})
	readme, err := os.ReadFile(filepath.Join(testx.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "\n## On the command line\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := strings.Split(section, "```")
	for i := 1; i < len(blocks); i += 2 {
		for line := range strings.Lines(blocks[i]) {
			for _, args := range calls(line) {
				count++
				parse(t, args)
			}
		}
	}
	if count < 35 {
		t.Errorf("only %d calls were found", count)
	}
}

// parse does with the arguments all that comes before a command runs.
func parse(t *testing.T, args []string) {
	t.Helper()
	cmd, rest, err := newRoot().Find(args)
	if err == nil && !cmd.HasParent() {
		t.Errorf("walq %q: no command", args)
		return
	}
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil && cmd.Args != nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("walq %q: %v", args, err)
	}
}

// calls finds what a line of shell hands to walq.
func calls(line string) (all [][]string) {
	var word strings.Builder
	var args []string
	quoted, inWord, inCall := false, false, false
	endWord := func() {
		switch {
		case !inWord:
		case inCall:
			args = append(args, word.String())
		case word.String() == "walq":
			inCall = true
		}
		word.Reset()
		inWord = false
	}
	endCall := func() {
		endWord()
		if inCall {
			all = append(all, args)
		}
		inCall, args = false, nil
	}
	for _, c := range line {
		switch {
		case c == '#' && !quoted && !inWord:
			endCall()
			return all
		case c == '\'':
			quoted, inWord = !quoted, true
		case quoted || !strings.ContainsRune(" \n|<>()&;", c):
			word.WriteRune(c)
			inWord = true
		case c == ' ':
			endWord()
		default:
			endCall()
		}
	}
	endCall()
	return all
}

func TestTheCallsOfALineAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"  walq demo\n":                      "demo",
		"seq 10 | walq put /q --key 'a b' &": "put,/q,--key,a b",
		"source <(walq completion bash)":     "completion,bash",
		"walq put a > b; walq cat '' # walq": "put,a;cat,",
		"go install ./cmd/walq":              "",
		"mywalq cat":                         "",
		"walq --version":                     "--version",
	} {
		var got []string
		for _, args := range calls(line) {
			got = append(got, strings.Join(args, ","))
		}
		if strings.Join(got, ";") != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
}

func TestHelpIsTheFlagHelp(t *testing.T) {
	if got, want := must(t, "", "help", "put"), must(t, "", "put", "--help"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := must(t, "", "help"), must(t, "", "--help"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := must(t, "", "--version"); !strings.HasPrefix(got, "walq version ") || strings.Count(got, "\n") != 1 {
		t.Errorf("--version: got %q", got)
	}
}
