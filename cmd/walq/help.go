package main

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// A manual is what help says of a command beside its description, its flags and
// its examples.
type manual struct {
	arguments string // a line each
	exits     string // the same: beyond what holds for every command
	see       string // other commands
}

const (
	manualArguments = "arguments"
	manualExits     = "exits"
	manualSee       = "see"
)

// on puts the manual into the command.
func (m manual) on(cmd *cobra.Command) *cobra.Command {
	cmd.Annotations = map[string]string{manualArguments: m.arguments, manualExits: m.exits, manualSee: m.see}
	return cmd
}

// corrupt is the status of those that come across corrupt files.
const corrupt = "3    a file is corrupt"

// dirArgument is the argument of most commands.
const dirArgument = "DIR  the directory of the queue"

// exits are the statuses that every command has.
const exits = `0    all went well, also if nobody reads the output any more
1    error
2    the command line makes no sense
130  Ctrl-C (SIGINT); 143: SIGTERM`

// exitStatus lists them in order, with what a command has to add or to say better.
func exitStatus(own string) string {
	lines := strings.Split(exits, "\n")
	for line := range strings.Lines(own) {
		lines = slices.DeleteFunc(lines, func(l string) bool { return status(l) == status(line) })
		lines = append(lines, strings.TrimSpace(line))
	}
	slices.SortStableFunc(lines, func(a, b string) int { return cmp.Compare(status(a), status(b)) })
	return indent(strings.Join(lines, "\n"))
}

// status is the number at the beginning of a line.
func status(line string) int {
	number, _, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		panic(err)
	}
	return n
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}

// usageTemplate has the order of a manual page.
const usageTemplate = `Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} COMMAND{{end}}{{with index .Annotations "arguments"}}

Arguments:
{{. | indent}}{{end}}{{if .HasAvailableSubCommands}}

Commands:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}

Exit status:
{{index .Annotations "exits" | exitStatus}}{{if .HasExample}}

Examples:
{{.Example}}{{end}}{{with index .Annotations "see"}}

See also:
{{. | indent}}{{end}}{{if .HasAvailableSubCommands}}

"{{.CommandPath}} COMMAND --help" tells more about a command.{{end}}
`

// setHelp makes the commands below root explain themselves.
func setHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("exitStatus", exitStatus)
	cobra.AddTemplateFunc("indent", indent)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) {
		// In one piece, and whoever closes the pipe has read enough.
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n%s", strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short)), cmd.UsageString())
	})
	root.SetUsageTemplate(usageTemplate)
	root.Version = version()
	root.SetHelpCommand(newHelp())
}

// newHelp is cobra's, except that asking for what is not there is an error.
func newHelp() *cobra.Command {
	return manual{arguments: "COMMAND  the command; without it help is about walq"}.on(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Explain a command",
		Long:  `Explain a command, or walq as a whole: the same as the flag --help of the command.`,
		Example: `  walq help
  walq help put`,
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
			if about, _, err := cmd.Root().Find(args); err == nil {
				for _, sub := range about.Commands() {
					if sub.IsAvailableCommand() {
						names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usagef("there is no command %q", strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	})
}

// version is what the program was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, modified := "", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = ", " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	return fmt.Sprintf("%s (%s%s%s)", info.Main.Version, info.GoVersion, revision, modified)
}
