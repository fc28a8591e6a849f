package main

import (
	"strings"

	"github.com/spf13/cobra"
)

var shells = []cobra.Completion{"bash", "zsh", "fish", "powershell"}

func newCompletion() *cobra.Command {
	cmd := manual{arguments: "SHELL  bash, zsh, fish or powershell", see: "walq help"}.on(&cobra.Command{
		Use:   "completion SHELL",
		Short: "Let a shell complete commands, flags and queues",
		Long: `Print a script that teaches a shell to complete walq's commands, their flags, the
values of flags, and directories. SHELL is bash, zsh, fish or powershell.

Load it in the running shell, or put it where the shell finds it whenever it
starts. bash needs the package bash-completion.`,
		Example: `  source <(walq completion bash)
  walq completion bash > ~/.local/share/bash-completion/completions/walq
  walq completion zsh > "${fpath[1]}/_walq"
  walq completion fish > ~/.config/fish/completions/walq.fish
  walq completion powershell | Out-String | Invoke-Expression`,
		Args: arguments("SHELL"),
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		root, out := cmd.Root(), cmd.OutOrStdout()
		switch args[0] {
		case "bash":
			return root.GenBashCompletionV2(out, true)
		case "zsh":
			return root.GenZshCompletion(out)
		case "fish":
			return root.GenFishCompletion(out, true)
		case "powershell":
			return root.GenPowerShellCompletionWithDesc(out)
		}
		return usagef("there is no completion for %q: want bash, zsh, fish or powershell", args[0])
	}
	return cmd
}

// complete says of the command, and of those below it, what can be an argument.
// What a flag can be is said where the flag is made; otherwise there is nothing to
// complete, above all no names of files.
func complete(cmd *cobra.Command) {
	cmd.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = completeArguments(strings.Fields(cmd.Use)[1:])
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

// completeArguments goes by the names that usage gives to the arguments.
func completeArguments(names []string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) < len(names) {
			switch names[len(args)] {
			case "DIR", "FROM":
				return directories(cmd, args, word)
			case "PATH", "FILE":
				return files(cmd, args, word)
			case "NAME":
				return groupNames(cmd, args, word)
			case "SHELL":
				return shells, cobra.ShellCompDirectiveNoFileComp
			}
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

var (
	directories = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
	files       = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault)
	// positions are what a position can be beside numbers and times.
	positions = cobra.FixedCompletions([]cobra.Completion{
		cobra.CompletionWithDesc("oldest", "the oldest message that is kept"),
		cobra.CompletionWithDesc("newest", "behind the newest message"),
		cobra.CompletionWithDesc("-10", "the last ten messages"),
	}, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveKeepOrder)
)

// completeFlag says what the value of a flag can be.
func completeFlag(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, values); err != nil {
		panic(err) // there is no such flag
	}
}
