package gen

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/rogpeppe/go-internal/diff"
)

// State is how a file on disk differs from what Generate makes.
type State string

// The states.
const (
	Missing  State = "missing"  // it is not there
	Stale    State = "stale"    // it was generated from another spec or by another moegen
	Edited   State = "edited"   // it was changed after it was generated
	Orphaned State = "orphaned" // it was generated and no longer is
	Foreign  State = "foreign"  // moegen did not make it, and will not overwrite it
)

// Difference is a file that is not what Generate makes.
type Difference struct {
	File  string // relative to the directory
	State State
	// Diff is the unified diff from the file to what Generate makes; a file that
	// is not there, or should not be, is /dev/null in it. There is none for PTX,
	// nor for a manifest that differs because other files do.
	Diff string
}

// Compare tells how the files in dir differ from those of the set, in the order
// of their names. It writes nothing. What the manifest says about the version of
// moegen makes no difference.
func (set *FileSet) Compare(dir string) ([]Difference, error) {
	old := readManifest(dir, set.Name)
	var list []Difference
	for _, file := range set.names() {
		d, err := set.compareFile(dir, file, old)
		if err != nil {
			return nil, err
		}
		if d == nil {
			continue
		}
		if file == set.Name+".json" && len(list) > 0 {
			d.Diff = "" // it follows from the others
		}
		list = append(list, *d)
	}
	for _, file := range orphans(dir, set.Name, set.wanted()) {
		d := Difference{File: file, State: Orphaned}
		have, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // another moegen has just removed it
		} else if err != nil {
			return nil, fmt.Errorf("compare: %w", err)
		}
		d.diff(have, nil)
		list = append(list, d)
	}
	return list, nil
}

// diff fills in Diff; nil is for no file.
func (d *Difference) diff(have, want []byte) {
	if filepath.Ext(d.File) == ".ptx" {
		return // thousands of lines that nobody reads
	}
	from, to := d.File, d.File+" (generated)"
	if have == nil {
		from = "/dev/null"
	}
	if want == nil {
		to = "/dev/null"
	}
	d.Diff = string(diff.Diff(from, have, to, want))
}

// names returns the files' names in the order in which they are written: the
// manifest last, because it vouches for the others.
func (set *FileSet) names() []string {
	manifest := set.Name + ".json"
	var list []string
	for _, file := range slices.Sorted(maps.Keys(set.wanted())) {
		if file != manifest {
			list = append(list, file)
		}
	}
	return append(list, manifest)
}

// wanted is Files, with the PTX even where its content is not known.
func (set *FileSet) wanted() map[string][]byte {
	if !set.unknownPTX {
		return set.Files
	}
	all := maps.Clone(set.Files)
	all[set.Name+".ptx"] = nil
	return all
}

func (set *FileSet) compareFile(dir, file string, old *Manifest) (*Difference, error) {
	want, known := set.Files[file]
	have, err := os.ReadFile(filepath.Join(dir, file))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d := &Difference{File: file, State: Missing}
		d.diff(nil, want)
		return d, nil
	case err != nil:
		return nil, fmt.Errorf("compare: %w", err)
	case known && set.unchanged(file, have, want):
		return nil, nil
	}
	d := &Difference{File: file, State: Stale}
	recorded := ""
	if old != nil {
		recorded = old.Outputs[file]
	}
	switch {
	case recorded != "" && recorded != hash(have):
		d.State = Edited
	case recorded == "" && !bearsHeader(file, have):
		d.State = Foreign
	}
	d.diff(have, want)
	return d, nil
}

// unchanged reports whether a file needs no writing.
func (set *FileSet) unchanged(file string, have, want []byte) bool {
	if bytes.Equal(have, want) {
		return true
	}
	if file != set.Name+".json" {
		return false
	}
	m := decodeManifest(have)
	if m == nil {
		return false
	}
	if set.unknownPTX && m.PTX != nil {
		// Which compiler there will be is not known, nor what it will make. That
		// the PTX is stale is said of the PTX.
		a, b := *m, *set.manifest
		a.PTX, b.PTX = nil, nil
		a.Outputs, b.Outputs = maps.Clone(m.Outputs), maps.Clone(b.Outputs)
		delete(a.Outputs, set.Name+".ptx")
		delete(b.Outputs, set.Name+".ptx")
		return sameManifest(&a, &b)
	}
	return sameManifest(m, set.manifest)
}
