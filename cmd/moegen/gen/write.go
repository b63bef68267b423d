package gen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// Report says what Write did. Names are relative to the directory.
type Report struct {
	Written   []string
	Removed   []string
	Emptied   []string // would be removed, but go generate still reads them: the next Write removes them
	Unchanged []string
}

// lockWait bounds the wait for another moegen that writes to the directory.
const lockWait = 30 * time.Second

// Write makes dir hold the set: it writes what differs, each file at once, and
// removes what earlier runs generated and this one does not. The manifest comes
// last; a run that is interrupted leaves a directory that Compare finds
// differences in and that the next run mends. Files that moegen did not make
// are never touched.
func (set *FileSet) Write(ctx context.Context, dir string) (Report, error) {
	if set.check {
		return Report{}, errors.New("write: this set was generated with Options.Check, for Compare only")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Report{}, fmt.Errorf("write %s: %w", dir, err)
	}
	unlock, alone := lock(ctx, dir)
	defer unlock()
	if alone {
		set.sweep(dir)
	}
	if err := ctx.Err(); err != nil {
		return Report{}, fmt.Errorf("write %s: %w", dir, err)
	}
	differences, err := set.Compare(dir)
	if err != nil {
		return Report{}, err
	}
	var r Report
	changed := map[string]bool{}
	for _, d := range differences {
		switch d.State {
		case Foreign:
			return Report{}, fmt.Errorf("%s is in the way: moegen did not generate it; move it, or rename the spec", filepath.Join(dir, d.File))
		case Orphaned:
			r.Removed = append(r.Removed, d.File)
		default:
			changed[d.File] = true
		}
	}
	manifest := set.Name + ".json"
	for _, file := range set.names() {
		if file == manifest {
			if err := set.remove(dir, &r); err != nil {
				return r, err
			}
		}
		if !changed[file] {
			r.Unchanged = append(r.Unchanged, file)
			continue
		}
		if err := writeFile(filepath.Join(dir, file), set.Files[file]); err != nil {
			return r, fmt.Errorf("write %s: %w", filepath.Join(dir, file), reason(err))
		}
		r.Written = append(r.Written, file)
	}
	return r, nil
}

// remove removes what is in r.Removed. Go files that go generate has yet to read
// are emptied instead, and their manifest stays, for the next run to find them.
func (set *FileSet) remove(dir string, r *Report) error {
	var removed []string
	for _, file := range r.Removed {
		path := filepath.Join(dir, file)
		if data, err := os.ReadFile(path); err == nil && set.readLater(file) && string(data) != emptied {
			if err := writeFile(path, []byte(emptied)); err != nil {
				return fmt.Errorf("empty what is no longer generated: %s: %w", path, reason(err))
			}
			r.Emptied = append(r.Emptied, file)
			continue
		}
		if m := readManifest(dir, strings.TrimSuffix(file, ".json")); m != nil && slices.ContainsFunc(r.Emptied, func(f string) bool { return m.Outputs[f] != "" }) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what is no longer generated: %w", err)
		}
		removed = append(removed, file)
	}
	r.Removed = removed
	return nil
}

// emptied is all that is left of a Go file that could not be removed yet. No go
// command takes it for part of a package, so that the next go generate does not
// read it.
const emptied = "// " + header + "\n\n//go:build ignore\n\npackage ignore\n"

// readLater reports whether the go generate that runs this still has to read a
// file. It lists a package's files when it starts, reads them in the order of
// their names, tests last, and fails where one is gone.
func (set *FileSet) readLater(file string) bool {
	if set.goFile == "" || filepath.Ext(file) != ".go" {
		return false
	}
	const test = "_test.go"
	if strings.HasSuffix(set.goFile, test) {
		return strings.HasSuffix(file, test) // in which order depends on their packages
	}
	return strings.HasSuffix(file, test) || file > set.goFile
}

// writeFile replaces a file at once. The temporary file lies beside it, since
// only within a file system can a rename do that, and starts with a dot, so
// that the go command ignores what a killed process leaves.
func writeFile(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o644, renameio.WithTempDir(filepath.Dir(path)), renameio.WithExistingPermissions())
}

// reason drops the name of the temporary file from an error, which means
// nothing to a reader.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// lock keeps other moegen processes from writing to dir until the returned
// function is called. It locks the directory itself, so that no lock file stays
// behind. Where locking does not work (some network file systems, Windows) it
// does without: files are still written whole, and two runs on one spec write
// the same.
func lock(ctx context.Context, dir string) (unlock func(), ok bool) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if ok, err := l.TryLockContext(ctx, 10*time.Millisecond); err != nil || !ok {
		return func() {}, false
	}
	return func() { _ = l.Unlock() }, true // closing the file unlocks it in any case
}

// sweep removes the temporary files of runs that were killed. Only who holds the
// lock may: others' are in use.
func (set *FileSet) sweep(dir string) {
	left, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "."+set.Name+"*"))
	for _, path := range left {
		if ext := filepath.Ext(path); temporary.MatchString(ext) {
			_ = os.Remove(path) // it harms nobody if it stays
		}
	}
}

// temporary matches what renameio makes of a file's extension.
var temporary = regexp.MustCompile(`^\.(?:go|cu|ptx|json|h)[0-9]+$`)
