package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/moegen/moegen/cmd/moegen/gen"
	"github.com/moegen/moegen/spec"
)

const generateHelp = `Usage: moegen generate [-o DIR] [-package NAME] [-prefix NAME] [-no-ptx]
                       [-no-test] [-nvcc PATH] [-M FILE] SPEC...

Writes for each NAME.yaml, or directory with a moe.yaml, the files

  NAME_moegen.go     a dispatcher with types for the model's shape
  NAME_moegen.cu     its kernels
  NAME_moegen.h      what kernels of your own need to know of them
  NAME_moegen.ptx    its kernels compiled, for the emulator and for machines
                     without nvcc
  NAME_moegen.json   what the others were made of
  NAME_moegen_test.go
                     a test of the dispatcher on emulated GPUs, and an example to
                     copy; not with -no-test

NAME_plan.yaml, which moegen tune writes, says how to launch the kernels.

Only files that change are written. What earlier runs generated and this one
does not is removed. In Go sources:

  //go:generate go tool moegen generate moe.yaml
`

func generate(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	f := newFlags("generate", generateHelp)
	options := outputFlags(f)
	f.StringVar(&options.NVCC, "nvcc", "", "the CUDA compiler's `PATH` (default: see moegen help environment)")
	depfile := f.String("M", "", "write to `FILE` a make rule that says what the output depends on")
	if code, done := parseFlags(f, args, stdout, stderr); done {
		return code
	}
	jobs, code := outputJobs(f, options, stderr)
	unchanged := 0
	var rules strings.Builder
	for _, job := range jobs {
		report, err := generateOne(ctx, job, &rules, *depfile)
		for _, file := range report.Written {
			fmt.Fprintln(stdout, "wrote", filepath.Join(job.Dir, file))
		}
		for _, file := range report.Removed {
			fmt.Fprintln(stdout, "removed", filepath.Join(job.Dir, file))
		}
		for _, file := range report.Emptied {
			fmt.Fprintln(stdout, "emptied", filepath.Join(job.Dir, file), "(go generate still reads it; the next run removes it)")
		}
		unchanged += len(report.Unchanged)
		if err != nil {
			fmt.Fprintln(stderr, "moegen generate:", errorText(err))
			return codeOf(err)
		}
	}
	if *depfile != "" && len(jobs) > 0 {
		// Written each time, so that make sees that something was done.
		if err := renameio.WriteFile(*depfile, []byte(rules.String()), 0o644, renameio.WithTempDir(filepath.Dir(*depfile))); err != nil {
			fmt.Fprintln(stderr, "moegen generate: -M:", err)
			return exitFailure
		}
	}
	if unchanged > 0 {
		fmt.Fprintf(stderr, "%d files unchanged\n", unchanged)
	}
	return code
}

// generateOne generates and writes one package, and adds its rule for make.
func generateOne(ctx context.Context, o gen.Options, rules *strings.Builder, depfile string) (gen.Report, error) {
	set, err := gen.Generate(ctx, o)
	if err != nil {
		return gen.Report{}, err
	}
	inputs := []string{o.SpecFile}
	if o.Spec.From != "" {
		inputs = append(inputs, filepath.Join(filepath.Dir(o.SpecFile), filepath.FromSlash(o.Spec.From)))
	}
	if o.Spec.Plan != nil {
		inputs = append(inputs, spec.PlanFile(o.SpecFile))
	}
	var outputs []string
	for _, file := range slices.Sorted(maps.Keys(set.Files)) {
		outputs = append(outputs, filepath.Join(o.Dir, file))
	}
	makeRule(rules, append(outputs, depfile), inputs)
	return set.Write(ctx, o.Dir)
}

// makeRule writes a rule without a recipe, and one for each input, so that make
// does not stop where one is gone.
func makeRule(b *strings.Builder, targets, inputs []string) {
	escape := strings.NewReplacer("$", "$$", " ", `\ `, "#", `\#`, `:`, `\:`)
	for i, t := range targets {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(escape.Replace(t))
	}
	b.WriteByte(':')
	for _, in := range inputs {
		b.WriteString(" " + escape.Replace(in))
	}
	b.WriteByte('\n')
	for _, in := range inputs {
		b.WriteString(escape.Replace(in) + ":\n")
	}
}

// outputFlags defines the flags that generate and check have in common.
func outputFlags(f *flag.FlagSet) *gen.Options {
	var o gen.Options
	f.StringVar(&o.Dir, "o", "", "the package's `DIR` (default: the spec's)")
	f.StringVar(&o.Package, "package", "", "the package's `NAME` (default: $GOPACKAGE, or what the package's files say, or the directory's name)")
	f.StringVar(&o.Prefix, "prefix", "", "start exported names with `NAME`, for several specs in one package")
	f.BoolVar(&o.NoPTX, "no-ptx", false, "leave the PTX out: the package then needs nvcc where it runs")
	f.BoolVar(&o.NoTest, "no-test", false, "leave the test and the example out")
	return &o
}

// outputJobs reads all specs, so that nothing is written where one is wrong. No
// jobs: it has printed why, and the code says what it was.
func outputJobs(f *flag.FlagSet, options *gen.Options, stderr io.Writer) ([]gen.Options, int) {
	if f.NArg() == 0 {
		return nil, usageError(stderr, f, "takes at least one spec")
	}
	var jobs []gen.Options
	from := map[string]string{} // output to spec
	code := exitOK
	for _, arg := range f.Args() {
		s, path, err := loadSpec(arg)
		if err == nil && path == "" {
			return nil, usageError(stderr, f, "%s is not a file; write it to one first: moegen init -o moe.yaml %[1]s", arg[len(presetPrefix):])
		}
		if err != nil {
			fmt.Fprintln(stderr, errorText(err))
			code = max(code, codeOf(err))
			continue
		}
		o := jobOf(options, s, path)
		output := filepath.Join(o.Dir, stem(path))
		if other, taken := from[output]; taken {
			return nil, usageError(stderr, f, "%s and %s have the same output; rename one, or generate them into two directories", other, path)
		}
		from[output] = path
		jobs = append(jobs, o)
	}
	if code != exitOK {
		return nil, code
	}
	return jobs, exitOK
}

func jobOf(options *gen.Options, s *spec.Spec, path string) gen.Options {
	o := *options
	o.Spec, o.SpecFile = s, path
	if o.Dir == "" {
		o.Dir = filepath.Dir(path)
	}
	// go generate sets it for the package in the current directory.
	if wd, err := os.Getwd(); err == nil {
		if dir, err := filepath.Abs(o.Dir); err == nil && dir == wd {
			o.GoPackage, o.GoFile = os.Getenv("GOPACKAGE"), os.Getenv("GOFILE")
		}
	}
	return o
}

func stem(path string) string {
	base := filepath.Base(path)
	return base[:len(base)-len(filepath.Ext(base))]
}
