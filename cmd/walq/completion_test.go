package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/walq/walq/internal/testx"
)

// The script itself leaves out what does not begin with a value's first letters.
func TestAShellCompletesWhatComesNext(t *testing.T) {
	const (
		nothing = cobra.ShellCompDirectiveNoFileComp
		dirs    = cobra.ShellCompDirectiveFilterDirs
		anyFile = cobra.ShellCompDirectiveDefault
		ordered = nothing | cobra.ShellCompDirectiveKeepOrder
	)
	dir := newDir(t)
	must(t, "", "create", dir)
	must(t, "", "consume", dir, "--group", "mail", "--no-wait")
	for _, c := range []struct {
		line      string // the last word is the one to complete
		want      string
		directive cobra.ShellCompDirective
	}{
		{"ver", "verify", nothing},
		{"cat ", "", dirs},
		{"cat q ", "", nothing},
		{"put ", "", dirs},
		{"stat ", "", dirs},
		{"create ", "", dirs},
		{"dump ", "", anyFile},
		{"demo ", "", nothing},
		{"consume ", "", dirs},
		{"consume q --dead-letter ", "", dirs},
		{"consume q --from ", "oldest newest -10", ordered},
		{"consume DIR --group ", "mail", nothing},
		{"group ", "ls pause reset resume rm set", nothing},
		{"group ls ", "", dirs},
		{"group rm DIR ", "mail", nothing},
		{"group rm nowhere ", "", nothing},
		{"redrive q ", "", dirs},
		{"demo --keep ", "", dirs},
		{"demo --input ", "", anyFile},
		{"put q --file ", "", anyFile},
		{"put q --sync ", "always interval never", nothing},
		{"put q --sync=", "always interval never", nothing},
		{"create q --durability ", "always interval never", nothing},
		{"put q -o ", "text json", nothing},
		{"cat q -o ", "raw json", nothing},
		{"cat q --from ", "oldest newest -10", ordered},
		{"cat q --topic ", "", nothing},
		{"trim q --bef", "--before", nothing},
		{"completion ", "bash zsh fish powershell", nothing},
	} {
		words := strings.Split(strings.ReplaceAll(c.line, "DIR", dir), " ")
		out := must(t, "", append([]string{cobra.ShellCompNoDescRequestCmd}, words...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		last := lines[len(lines)-1]
		got := strings.Join(lines[:len(lines)-1], " ")
		if got != c.want || last != fmt.Sprintf(":%d", c.directive) {
			t.Errorf("walq %s: got %q and directive %s, want %q and :%d", c.line, got, last, c.want, c.directive)
		}
	}
}

func TestEveryCommandAndFlagIsCompleted(t *testing.T) {
	out := must(t, "", cobra.ShellCompNoDescRequestCmd, "")
	visible(t, func(cmd *cobra.Command) {
		if cmd.HasParent() && cmd.Parent() == cmd.Root() && !slices.Contains(strings.Split(out, "\n"), cmd.Name()) {
			t.Errorf("%s is not completed: %q", cmd.Name(), out)
		}
	})
	for _, hidden := range []string{"producer", "consumer", "account"} {
		if got := must(t, "", cobra.ShellCompNoDescRequestCmd, "demo", ""); strings.Contains(got, hidden) {
			t.Errorf("what is hidden is completed: %q", got)
		}
	}
}

func TestCompletionIsAScriptForEachShell(t *testing.T) {
	for shell, want := range map[string]string{
		"bash": "complete -o default", "zsh": "#compdef walq", "fish": "complete -c walq", "powershell": "Register-ArgumentCompleter",
	} {
		script := must(t, "", "completion", shell)
		if !strings.Contains(script, want) {
			t.Errorf("%s: no %q in %d bytes", shell, want, len(script))
		}
		path, err := exec.LookPath(shell)
		if err != nil || shell == "powershell" {
			continue // not here; bash, with which the other test completes, is
		}
		cmd := exec.Command(path, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not take its script: %v\n%s", shell, err, out)
		}
	}
}

// What bash itself makes of the script.
func TestBashCompletesACommandLine(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		testx.Skip(t, "there is no bash")
	}
	// Without the package bash-completion there is no _get_comp_words_by_ref.
	const ask = `
		walq() { "$WALQ" "$@"; }
		source <("$WALQ" completion bash)
		COMP_WORDS=(walq put q --sync n); COMP_CWORD=4; COMP_LINE="walq put q --sync n"; COMP_POINT=${#COMP_LINE}
		_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]}; prev=${COMP_WORDS[COMP_CWORD-1]}; words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; }
		_init_completion() { _get_comp_words_by_ref; }
		COMP_TYPE=9
		compopt() { :; }
		__start_walq
		printf '%s\n' "${COMPREPLY[@]}"`
	cmd := exec.Command(bash, "-c", ask)
	cmd.Env = append(cmd.Environ(), "WALQ="+testx.BuildBinary(t))
	out, err := cmd.CombinedOutput()
	if got := strings.Join(strings.Fields(string(out)), " "); err != nil || got != "never" {
		t.Errorf("got %q, %v, want never", out, err)
	}
}
