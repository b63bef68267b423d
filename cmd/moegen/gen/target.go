package gen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// target is what the package's directory holds already, apart from what moegen
// generated there.
type target struct {
	fset  *token.FileSet
	files []*ast.File // of one package; tests in it included
	tests []*ast.File // of its external test package
}

// inspect reads the Go files in dir, but for those that the output called name
// is going to replace. quick leaves out what the go command knows and the files
// themselves do not say.
func inspect(ctx context.Context, dir, name string, quick bool) (*target, error) {
	t := &target{fset: token.NewFileSet()}
	paths, err := goFiles(ctx, dir, quick)
	if err != nil {
		return nil, err
	}
	abandoned := orphans(dir, name, nil)
	for _, path := range paths {
		base := filepath.Base(path)
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another moegen has just removed it
		} else if err != nil {
			return nil, fmt.Errorf("read the package that is there: %w", err)
		}
		if (base == name+".go" || base == name+testSuffix) && bearsHeader(base, data) || slices.Contains(abandoned, base) {
			continue
		}
		// A file with syntax errors still tells its package and most of its
		// names; that it is broken is not for a generator to say.
		f, err := parser.ParseFile(t.fset, path, data, parser.SkipObjectResolution)
		if f == nil {
			return nil, fmt.Errorf("read the package that is there: %w", err)
		}
		pkg := f.Name.Name
		switch {
		case pkg == "" || pkg == "_":
		case strings.HasSuffix(path, testSuffix) && strings.HasSuffix(pkg, testPackage):
			t.tests = append(t.tests, f)
		default:
			t.files = append(t.files, f)
		}
	}
	return t, nil
}

// goFiles returns the Go files in dir that the go command would build or test. It
// asks the go command, which takes a tenth of a second, or is quick.
func goFiles(ctx context.Context, dir string, quick bool) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the package that is there: %w", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".go" {
			paths = append(paths, filepath.Join(abs, e.Name()))
		}
	}
	if paths == nil {
		return nil, nil
	}
	built := map[string]bool{}
	if !quick {
		cfg := &packages.Config{Context: ctx, Dir: abs, Mode: packages.NeedName | packages.NeedFiles, Tests: true}
		pkgs, _ := packages.Load(cfg, ".")
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, p := range pkgs {
			for _, path := range p.GoFiles {
				built[path] = true
			}
		}
	}
	if len(built) == 0 {
		// No go command, no module, two packages in one directory, or no time: the
		// build constraints of the files themselves still say which count.
		for _, path := range paths {
			ok, err := build.Default.MatchFile(abs, filepath.Base(path))
			built[path] = ok && err == nil
		}
	}
	return slices.DeleteFunc(paths, func(path string) bool { return !built[path] }), nil
}

// packageName decides the package's name; files that are there must agree.
func (t *target) packageName(o *Options, dir string, old *Manifest) (string, error) {
	name, because := o.Package, "-package says"
	if name == "" && o.GoPackage != "" {
		// A go:generate line may stand in an external test file.
		name, because = strings.TrimSuffix(o.GoPackage, testPackage), "$GOPACKAGE says"
	}
	for _, f := range t.files {
		if name == "" {
			name, because = f.Name.Name, fmt.Sprintf("%s has", t.position(f.Name.Pos()))
		}
		if f.Name.Name != name {
			return "", fmt.Errorf("%s: package %s, and %s %s: a directory holds one package", t.position(f.Name.Pos()), f.Name.Name, because, name)
		}
	}
	switch {
	case name != "":
		return name, nil
	case old != nil && validPackage(old.Package):
		return old.Package, nil
	}
	return packageOfDir(dir)
}

// position is a place in a file, the file relative to the current directory
// where it is below.
func (t *target) position(pos token.Pos) string {
	p := t.fset.Position(pos)
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, p.Filename); err == nil && filepath.IsLocal(rel) {
			p.Filename = rel
		}
	}
	return p.String()
}

// Collision is an identifier that the package has already.
type Collision struct {
	Name string
	Pos  string // file:line:col of the declaration that is there
}

// CollisionError says that generated code would not compile beside the
// package's own files.
type CollisionError struct {
	File       string // the generated file
	Collisions []Collision
}

func (e *CollisionError) Error() string {
	var b strings.Builder
	for i, c := range e.Collisions {
		if i == 10 {
			fmt.Fprintf(&b, "and %d more\n", len(e.Collisions)-i)
			break
		}
		fmt.Fprintf(&b, "%s: %s is declared here and in the generated %s\n", c.Pos, c.Name, e.File)
	}
	if strings.HasSuffix(e.File, testSuffix) {
		b.WriteString("rename yours, or leave the generated test out with -no-test")
	} else {
		b.WriteString("give the generated names a prefix with -prefix, or a package of their own with -o DIR")
	}
	return b.String()
}

// collisions reports which identifiers of the generated source the package has
// already, or its external test package where the source belongs to that. Within
// a package, what one file imports must not be what another declares.
func (t *target) collisions(file string, source []byte) error {
	f, err := parser.ParseFile(token.NewFileSet(), file, source, parser.SkipObjectResolution)
	if err != nil {
		return fmt.Errorf("generate %s: %w", file, err)
	}
	ourDecls, ourImports := declarations(f), imports(f)
	e := &CollisionError{File: file}
	among := t.files
	if strings.HasSuffix(file, testSuffix) && strings.HasSuffix(f.Name.Name, testPackage) {
		among = t.tests
	}
	for _, f := range among {
		theirs := declarations(f)
		for name, pos := range theirs {
			_, declared := ourDecls[name]
			_, imported := ourImports[name]
			if receiver, _, ok := strings.Cut(name, "."); ok && declared {
				_, again := theirs[receiver] // then its methods go without saying
				declared = !again
			}
			if declared || imported {
				e.Collisions = append(e.Collisions, Collision{name, t.position(pos)})
			}
		}
		for name, pos := range imports(f) {
			if _, declared := ourDecls[name]; declared {
				e.Collisions = append(e.Collisions, Collision{name, t.position(pos)})
			}
		}
	}
	if e.Collisions == nil {
		return nil
	}
	slices.SortFunc(e.Collisions, func(a, b Collision) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Pos, b.Pos))
	})
	return e
}
