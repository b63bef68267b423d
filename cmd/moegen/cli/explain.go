package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/explain"
	"github.com/moegen/moegen/spec"
)

const explainHelp = `Usage: moegen explain [-json] [-ranks N] [-sms N] SPEC

Tells what is generated for a spec, and why: kernels and launches, bytes on the
wire, memory of each GPU, times that a model predicts for each transport, and how
far that model is from what it was fitted to; and which fields are defaults.
Nothing is generated or run. SPEC is a file, a directory with a moe.yaml, or
preset:NAME.
`

func explainSpec(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("explain", explainHelp)
	asJSON := f.Bool("json", false, "print it as JSON")
	ranks := f.Int("ranks", 0, "explain `N` ranks instead of the spec's ep_size")
	sms := f.Int("sms", 0, "explain `N` multiprocessors instead of the spec's sm_limit")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	if f.NArg() != 1 {
		return usageError(stderr, f, "takes one spec. For example: moegen explain moe.yaml")
	}
	s, path, err := loadSpec(f.Arg(0))
	if err != nil {
		return failed(stderr, f, err)
	}
	var text []byte
	if path != "" {
		text, err = os.ReadFile(path)
	} else {
		text, err = spec.Preset(strings.TrimPrefix(f.Arg(0), presetPrefix))
	}
	if err == nil {
		s, err = override(s, *ranks, *sms)
	}
	if err != nil {
		return failed(stderr, f, err)
	}
	x := explain.Of(s, text)
	if *asJSON {
		if err := printJSON(stdout, x); err != nil {
			fmt.Fprintln(stderr, "moegen explain:", err)
			return exitFailure
		}
		return exitOK
	}
	x.Print(stdout)
	return exitOK
}
