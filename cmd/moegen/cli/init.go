package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/moegen/moegen/spec"
)

const initHelp = `Usage: moegen init [-o FILE] PRESET

Writes the spec of a known model, with comments, to be edited: to the standard
output, or to FILE, which must not exist. Without PRESET it lists the presets.

  moegen init
  moegen init -o moe.yaml deepseek-v3
`

func initSpec(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("init", initHelp)
	output := f.String("o", "", "write to `FILE` instead of the standard output")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	switch f.NArg() {
	case 0:
		if *output != "" {
			return usageError(stderr, f, "-o needs a preset (presets: %s)", strings.Join(spec.Presets(), ", "))
		}
		fmt.Fprintln(stdout, strings.Join(spec.Presets(), "\n"))
		return exitOK
	case 1:
	default:
		return usageError(stderr, f, "takes one preset")
	}
	text, err := spec.Preset(f.Arg(0))
	if err != nil {
		if strings.HasSuffix(f.Arg(0), ".json") {
			err = fmt.Errorf("%w; reading a model's config.json is not built yet", err)
		}
		return usageError(stderr, f, "%v", err)
	}
	if *output == "" {
		_, err = stdout.Write(text)
	} else {
		err = writeNew(*output, text)
	}
	if err != nil {
		fmt.Fprintln(stderr, "moegen init:", err)
		return exitFailure
	}
	return exitOK
}

// writeNew writes a file that does not exist yet: a spec that somebody has
// edited is not to be lost.
func writeNew(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists; remove it first, or write to another file", path)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}
