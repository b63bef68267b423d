package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moegen/moegen/spec"
)

const completionHelp = `Usage: moegen completion SHELL

Prints a script that completes moegen's command lines in SHELL: bash, zsh or fish.

  source <(moegen completion bash)                    in ~/.bashrc
  source <(moegen completion zsh)                     in ~/.zshrc
  moegen completion fish > ~/.config/fish/completions/moegen.fish
`

// scripts ask moegen complete for words; where it has none, they offer files.
var scripts = map[string]string{
	"bash": `_moegen() {
	local IFS=$'\n'
	COMPREPLY=($(moegen complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _moegen moegen
`,
	"zsh": `_moegen() {
	local -a found
	found=("${(@f)$(moegen complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n "$found" ]]; then
		compadd -- $found
	else
		_files
	fi
}
compdef _moegen moegen
`,
	"fish": `function __moegen_complete
	set -l before (commandline -opc)
	moegen complete $before[2..] (commandline -ct) 2>/dev/null
end
complete -c moegen -a '(__moegen_complete)'
`,
}

var shells = []string{"bash", "zsh", "fish"}

func completion(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("completion", completionHelp)
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() != 1 || scripts[f.Arg(0)] == "" {
		return usageError(stderr, f, "takes one of %s", strings.Join(shells, ", "))
	}
	fmt.Fprint(stdout, scripts[f.Arg(0)])
	return exitOK
}

// complete prints what the last of the words can be, one a line; the scripts run
// it.
func complete(ctx context.Context, words []string, stdin io.Reader, stdout, _ io.Writer) int {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	for _, c := range candidates(ctx, words[:len(words)-1], last, stdin) {
		if strings.HasPrefix(c, last) {
			fmt.Fprintln(stdout, c)
		}
	}
	return exitOK
}

// flagValues are those that are one of a few.
var flagValues = map[string][]string{
	"-backend": {"auto", "cuda", "emu"}, "-dtype": {"bf16", "fp16", "fp32"}, "-graph": {"auto", "only", "off"},
	"-mode": {"fast", "check", "explore"}, "-partial": {"both", "buffer", "own"}, "-transport": {"auto", "all", "nvls", "p2p", "nccl"},
}

// candidates returns the words that may follow before. None: a file.
func candidates(ctx context.Context, before []string, last string, stdin io.Reader) []string {
	var names []string
	for _, c := range commands() {
		if c.summary != "" {
			names = append(names, c.name)
		}
	}
	if len(before) == 0 {
		return names
	}
	if values := flagValues[before[len(before)-1]]; values != nil {
		return values
	}
	i := slices.IndexFunc(commands(), func(c command) bool { return c.name == before[0] })
	switch {
	case before[0] == "help" && len(before) == 1:
		for _, t := range topics() {
			names = append(names, t.name)
		}
		return names
	case i < 0 || commands()[i].run == nil || before[0] == "complete":
		return nil
	case strings.HasPrefix(last, "-"):
		var flags bytes.Buffer
		commands()[i].run(ctx, []string{listFlags}, stdin, &flags, io.Discard)
		return strings.Fields(flags.String())
	case before[0] == "completion" && len(before) == 1:
		return shells
	case before[0] == "init" && !slices.Contains(spec.Presets(), before[len(before)-1]):
		if before[len(before)-1] == "-o" {
			return nil
		}
		return spec.Presets()
	}
	return nil
}

// listFlags, alone, makes a command print its flags, for completion.
const listFlags = "-list-flags-for-completion"
