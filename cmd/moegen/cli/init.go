package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moegen/moegen/spec"
)

const initHelp = `Usage: moegen init [-o FILE] PRESET
       moegen init [-o FILE] [-ep-size N] ... CONFIG

Writes a spec with comments, to be edited: to the standard output, or to FILE,
which must not exist. PRESET is a model that moegen knows; without one, init lists
them. CONFIG is a model's config.json as Hugging Face has it, or the directory
that it is in. If it lies below the spec, the spec names it (from: config.json)
and follows it when it changes; else the spec gets its numbers.

  moegen init
  moegen init -o moe.yaml deepseek-v3
  moegen init -o moe.yaml -ep-size 4 config.json

What a config.json lacks or leaves open is asked for: give it with a flag.
`

func initSpec(_ context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("init", initHelp)
	output := f.String("o", "", "write to `FILE` instead of the standard output")
	var d spec.Draft
	draftFlags(f, &d)
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	switch f.NArg() {
	case 0:
		if *output != "" {
			return usageError(stderr, f, "-o needs a preset or a config.json (presets: %s)", strings.Join(spec.Presets(), ", "))
		}
		fmt.Fprintln(stdout, strings.Join(spec.Presets(), "\n"))
		return exitOK
	case 1:
	default:
		return usageError(stderr, f, "takes one preset or config.json")
	}
	var text []byte
	var err error
	if d.Config = configOf(f.Arg(0)); d.Config != "" {
		if d.From = relativeTo(filepath.Dir(*output), d.Config); d.From == "" {
			fmt.Fprintf(stderr, "moegen init: %s does not lie below the spec: its numbers are written out, and a change there will go unnoticed\n", d.Config)
		}
		text, err = d.YAML()
	} else {
		if text, err = spec.Preset(f.Arg(0)); err != nil {
			return usageError(stderr, f, "%v", err)
		}
		given := ""
		f.Visit(func(fl *flag.Flag) {
			if fl.Name != "o" {
				given = fl.Name
			}
		})
		if given != "" {
			return usageError(stderr, f, "-%s is for specs made of a config.json; edit a preset's spec instead", given)
		}
	}
	switch {
	case err != nil:
	case *output == "":
		_, err = stdout.Write(text)
	default:
		err = writeNew(*output, text)
	}
	if err != nil {
		if codeOf(err) == exitSpec {
			fmt.Fprint(stderr, err, "\n", flagHint(err)) // a line for each mistake, with its file
		} else {
			fmt.Fprintln(stderr, "moegen init:", err)
		}
		return codeOf(err)
	}
	return exitOK
}

// draftFlags defines the flags for what a config.json does not say.
func draftFlags(f *flag.FlagSet, d *spec.Draft) {
	f.StringVar(&d.Model, "model", "", "the model's `NAME` (default: the config's, or that of its architecture)")
	f.IntVar(&d.HiddenDim, "hidden-dim", 0, "elements of a hidden state, where the config leaves it open")
	f.IntVar(&d.NumExperts, "num-experts", 0, "routed experts of a layer, where the config leaves it open")
	f.IntVar(&d.TopK, "topk", 0, "experts per token, where the config leaves it open")
	f.IntVar(&d.EPSize, "ep-size", 0, "ranks that share the experts (default 8, or one per expert if there are fewer)")
	f.StringVar((*string)(&d.DType), "dtype", "", "`TYPE` of hidden states: bf16, fp16 or fp32 (default: that of the config)")
}

// flagHint names the flags that settle what a config.json left open.
func flagHint(err error) string {
	var open *spec.DraftError
	if !errors.As(err, &open) {
		return ""
	}
	flags := ""
	for _, field := range open.Open {
		if field == "dtype" {
			flags += " -dtype bf16"
		} else {
			flags += " -" + strings.ReplaceAll(field, "_", "-") + " N"
		}
	}
	if flags == "" {
		return ""
	}
	return "moegen init: to settle it here, add" + flags + "\n"
}

// configOf returns the config.json that an argument means, "" if it can only be
// a preset.
func configOf(arg string) string {
	for _, name := range spec.Presets() {
		if name == arg {
			return ""
		}
	}
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		return filepath.Join(arg, "config.json")
	} else if err == nil || strings.HasSuffix(arg, ".json") {
		return arg
	}
	return ""
}

// relativeTo returns the path of a file below dir, with slashes, or "".
func relativeTo(dir, file string) string {
	d, errD := filepath.Abs(dir)
	f, errF := filepath.Abs(file)
	rel, err := filepath.Rel(d, f)
	if errors.Join(errD, errF, err) != nil || !filepath.IsLocal(rel) {
		return ""
	}
	return filepath.ToSlash(rel)
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
