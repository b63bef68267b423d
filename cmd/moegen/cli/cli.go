// Package cli is the moegen command: Run is all of it, with its streams as
// arguments, so that tests run it like any function.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
)

// Exit codes of every subcommand.
const (
	exitOK      = 0
	exitFailure = 1 // something did not work, or a result is wrong
	exitUsage   = 2 // the command line makes no sense
	exitSpec    = 3 // a spec is wrong
	exitStale   = 4 // generated output is not what the spec says
)

// command is a subcommand.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int
}

func commands() []command {
	return []command{
		{"init", "write a spec from a preset or a model's config.json", initSpec},
		{"generate", "write the dispatcher package of a spec", generate},
		{"check", "tell whether generated output is up to date", check},
		{"run", "run a whole MoE layer exchange and verify it", runCommand},
		{"doctor", "tell what this machine offers, what is used, and why not", doctorCommand},
		{"bench", "measure the exchange against NCCL and the link", benchCommand},
		{"tune", "measure which launches are fastest here, for generate", tune},
		{"explain", "tell what is generated for a spec, why, and what it costs", explainSpec},
		{"completion", "print a script that completes command lines in a shell", completion},
		{"complete", "", complete},
		{"version", "print the version", version},
		{"help", "print this text, or a command's, or a topic's", nil},
	}
}

// Run runs the command line args, without the program's name, and returns the
// exit code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends the process
	if len(args) == 0 {
		fmt.Fprint(stderr, usage())
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch name {
	case "-h", "-help", "--help", "help":
		if len(rest) == 0 || name != "help" {
			fmt.Fprint(stdout, usage())
			return exitOK
		}
		if printTopic(stdout, rest[0]) {
			return exitOK
		}
		name, rest = rest[0], []string{"-h"}
	case "-version", "--version":
		name = "version"
	}
	for _, c := range commands() {
		if c.name == name && c.run != nil {
			return c.run(ctx, rest, stdin, stdout, stderr)
		}
	}
	if name == "help" {
		fmt.Fprint(stdout, usage())
		return exitOK
	}
	var names []string
	for _, c := range commands() {
		if c.name != "complete" { // for shells
			names = append(names, c.name)
		}
	}
	if args[0] == "help" {
		for _, t := range topics() {
			names = append(names, t.name)
		}
	}
	fmt.Fprintf(stderr, "moegen: unknown command %q", name)
	if s := closest(name, names); s != "" {
		fmt.Fprintf(stderr, "; did you mean %s?", s)
	}
	fmt.Fprintln(stderr, "\nRun \"moegen help\" for the commands.")
	return exitUsage
}

const (
	usageText = "moegen generates and runs token exchanges for mixture-of-experts inference.\n"
	startText = `  moegen init -o moe.yaml qwen3-30b-a3b   a spec to edit
  moegen generate moe.yaml                the Go package with its kernels
  moegen run moe.yaml                     does it work? (no GPU is needed)
`
)

func usage() string {
	var b strings.Builder
	b.WriteString(usageText + "\nUsage:\n\n  moegen COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n\n")
	for _, c := range commands() {
		if c.summary != "" {
			fmt.Fprintf(&b, "  %-14s %s\n", c.name, c.summary)
		}
	}
	b.WriteString("\nTopics:\n\n")
	for _, t := range topics() {
		fmt.Fprintf(&b, "  %-14s %s\n", t.name, t.summary)
	}
	b.WriteString("\nStart with:\n\n" + startText + `
Exit codes: 0 ok, 1 failure, 2 usage, 3 bad spec, 4 stale.
"moegen help COMMAND" and "moegen help TOPIC" tell more.
`)
	return b.String()
}

// newFlags makes a flag set whose -h prints help with the flags' own texts.
func newFlags(name, help string) *flag.FlagSet {
	f := flag.NewFlagSet("moegen "+name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // parse prints
	f.Usage = func() {
		fmt.Fprint(f.Output(), help, "\nFlags:\n\n")
		f.PrintDefaults()
	}
	return f
}

// parseFlags parses args. Where the command is to end now, done is true.
func parseFlags(f *flag.FlagSet, args []string, stdout, stderr io.Writer) (code int, done bool) {
	if len(args) == 1 && args[0] == listFlags {
		f.VisitAll(func(fl *flag.Flag) { fmt.Fprintln(stdout, "-"+fl.Name) })
		return exitOK, true
	}
	usage := f.Usage
	f.Usage = func() {}
	err := f.Parse(args)
	switch {
	case err == nil:
		for _, a := range f.Args() {
			if strings.HasPrefix(a, "-") && a != "-" {
				return usageError(stderr, f, "%s comes after an argument; flags come first", a), true
			}
		}
		return exitOK, false
	case errors.Is(err, flag.ErrHelp):
		f.SetOutput(stdout)
		usage()
		return exitOK, true
	}
	return usageError(stderr, f, "%v", err), true
}

// usageError prints what is wrong with the command line.
func usageError(stderr io.Writer, f *flag.FlagSet, format string, args ...any) int {
	fmt.Fprintf(stderr, "%s: %s\nRun \"%s -h\" for help.\n", f.Name(), fmt.Sprintf(format, args...), f.Name())
	return exitUsage
}
