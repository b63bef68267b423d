package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

const presetPrefix = "preset:"

// loadSpec reads the spec that an argument names: a file, with the plan beside it,
// a directory with a moe.yaml, or preset:NAME. path is the spec's file, "" for a preset.
func loadSpec(arg string) (s *spec.Spec, path string, err error) {
	s, path, err = loadSpecWith(arg, spec.Load)
	if err == nil {
		err = gen.CheckPlan(s)
	}
	return s, path, err
}

// loadSpecWith is loadSpec with the function that loads files.
func loadSpecWith(arg string, load func(path string) (*spec.Spec, error)) (s *spec.Spec, path string, err error) {
	if name, ok := strings.CutPrefix(arg, presetPrefix); ok {
		text, err := spec.Preset(name)
		if err != nil {
			return nil, "", &argumentError{err}
		}
		s, err := spec.Parse(name+".yaml", text)
		return s, "", err
	}
	if info, err := os.Stat(arg); err == nil && info.IsDir() {
		arg = filepath.Join(arg, "moe.yaml")
	} else if errors.Is(err, os.ErrNotExist) {
		for _, name := range spec.Presets() {
			if name == arg {
				return nil, "", &argumentError{fmt.Errorf("there is no file %s; the preset of that name is %s%s", arg, presetPrefix, arg)}
			}
		}
	}
	s, err = load(arg)
	return s, arg, err
}

// argumentError is a mistake in the command line that shows late.
type argumentError struct{ err error }

func (e *argumentError) Error() string { return e.err.Error() }
func (e *argumentError) Unwrap() error { return e.err }

// codeOf returns the exit code for an error.
func codeOf(err error) int {
	var list spec.ErrorList
	var argument *argumentError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &argument):
		return exitUsage
	case errors.As(err, &list):
		return exitSpec
	}
	return exitFailure
}

// errorText turns an error into what the user reads.
func errorText(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}

// override returns the spec with another ep_size and sm_limit, where they are
// not 0.
func override(s *spec.Spec, ranks, sms int) (*spec.Spec, error) {
	c := *s
	if ranks != 0 {
		c.EPSize = ranks
	}
	if sms != 0 {
		c.SMLimit = sms
	}
	if err := c.Validate(); err != nil {
		// The spec is fine as it stands in its file.
		return nil, &argumentError{fmt.Errorf("with -ranks %d -sms %d: %w", c.EPSize, c.SMLimit, err)}
	}
	return &c, nil
}
