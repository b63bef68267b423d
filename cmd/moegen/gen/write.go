package gen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// Report says what Write did. Names are relative to the directory.
type Report struct {
	Written   []string
	Removed   []string
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
	unlock := lock(ctx, dir)
	defer unlock()
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
			if err := remove(dir, r.Removed); err != nil {
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

func remove(dir string, files []string) error {
	for _, file := range files {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what is no longer generated: %w", err)
		}
	}
	return nil
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
func lock(ctx context.Context, dir string) (unlock func()) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if ok, err := l.TryLockContext(ctx, 10*time.Millisecond); err != nil || !ok {
		return func() {}
	}
	return func() { _ = l.Unlock() } // closing the file unlocks it in any case
}
