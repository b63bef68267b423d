package gen

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moegen/moegen/spec"
	"github.com/moegen/moegen/templates"
)

// FileSet is a generated package's files.
type FileSet struct {
	Name    string            // what the files' names start with, moe_moegen
	Dir     string            // the directory that it was generated for
	Package string            // the Go package's name
	Files   map[string][]byte // file name to content; without the PTX where that is not known

	manifest *Manifest
	goFile   string
	nvcc     string // path of the compiler, "" to look for one
	check    bool   // generated for Compare
	// unknownPTX: moreover, the PTX there is not one that was compiled from this
	// source.
	unknownPTX bool
}

// Generate returns the files for a spec. Mistakes in the spec are a
// [spec.ErrorList], identifiers that the package has already a
// [CollisionError]. It writes nothing.
func Generate(ctx context.Context, o Options) (*FileSet, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	name, err := outputName(o.SpecFile)
	if err != nil {
		return nil, err
	}
	s := o.Spec
	if s == nil {
		if s, err = spec.Load(o.SpecFile); err != nil {
			return nil, err
		}
	}
	if err := CheckPlan(s); err != nil {
		return nil, err
	}
	set := &FileSet{Name: name, Dir: o.Dir, goFile: o.GoFile, nvcc: o.NVCC, check: o.Check, Files: map[string][]byte{}}
	if set.Dir == "" {
		set.Dir = filepath.Dir(o.SpecFile)
	}
	old := readManifest(set.Dir, name)
	if o.Check && old != nil {
		if o.Prefix == "" {
			o.Prefix = old.Prefix
		}
		o.NoPTX = o.NoPTX || old.PTX == nil
		o.NoTest = o.NoTest || old.NoTest
	}
	there, err := inspect(ctx, set.Dir, name, o.Check)
	if err != nil {
		return nil, err
	}
	if set.Package, err = there.packageName(&o, set.Dir, old); err != nil {
		return nil, err
	}
	set.manifest = &Manifest{
		Generator: header, Moegen: version(), Templates: templates.Hash(),
		Spec:    ManifestSpec{File: relative(set.Dir, o.SpecFile), Hash: s.Hash()},
		Package: set.Package, Prefix: o.Prefix, NoTest: o.NoTest,
		Transports: names2strings(s.Transports), Kernels: Kernels(s),
	}
	if err := set.emit(ctx, s, &o, old); err != nil {
		return nil, fmt.Errorf("%s: %w", o.SpecFile, err)
	}
	for _, file := range []string{name + ".go", name + testSuffix} {
		source, ok := set.Files[file]
		if !ok {
			continue // there is no test
		}
		if err := there.collisions(file, source); err != nil {
			return nil, err
		}
	}
	return set, nil
}

// emit fills in Files and the manifest.
func (set *FileSet) emit(ctx context.Context, s *spec.Spec, o *Options, old *Manifest) error {
	source, err := CUDA(s)
	if err != nil {
		return err
	}
	set.Files[set.Name+".cu"] = source
	if set.Files[set.Name+".h"], err = CHeader(s, strings.TrimSuffix(set.Name, suffix)); err != nil {
		return err
	}
	if !o.NoPTX {
		if err := set.addPTX(ctx, s.Arch[0], source, o.Check, old); err != nil {
			return err
		}
	}
	goSource, err := goFile(s, set.Package, set.Name, o)
	if err != nil {
		return err
	}
	set.Files[set.Name+".go"] = goSource
	if !o.NoTest {
		test, err := testSourceOf(s, set.Package, importPath(set.Dir, set.Package), o)
		if err != nil {
			return fmt.Errorf("generate %s: %w", set.Name+testSuffix, err)
		}
		set.Files[set.Name+testSuffix] = test
	}
	set.manifest.record(set.Files)
	if set.Files[set.Name+".json"], err = set.manifest.encode(); err != nil {
		return err
	}
	return nil
}

func names2strings[T ~string](l []T) []string {
	out := make([]string, len(l))
	for i, v := range l {
		out[i] = string(v)
	}
	return out
}
