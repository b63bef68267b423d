package gen

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bearsHeader reports whether a file's content says that moegen made it.
func bearsHeader(name string, data []byte) bool {
	if strings.HasSuffix(name, ".json") {
		// Also one with the marks of a merge conflict in it.
		return bytes.Contains(data, []byte(`"generator": "`+header+`"`))
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	return string(bytes.TrimRight(first, "\r")) == "// "+header
}

// orphans returns the generated files in dir that belong to nothing any more:
// those that the old manifest of name lists and wanted does not have (nothing,
// if wanted is nil), and all those of specs that are gone. Files count only if
// they are listed in a manifest and bear the header. A test of name need not be
// listed: the run that leaves it out may have to leave it emptied.
func orphans(dir, name string, wanted map[string][]byte) []string {
	var list []string
	add := func(file string) {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err == nil && bearsHeader(file, data) && !slices.Contains(list, file) {
			list = append(list, file)
		}
	}
	if old := readManifest(dir, name); old != nil && wanted != nil {
		for _, file := range append(slices.Sorted(maps.Keys(old.Outputs)), name+testSuffix) {
			if _, ok := wanted[file]; !ok {
				add(file)
			}
		}
	}
	manifests, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*"+suffix+".json"))
	for _, path := range manifests {
		other := strings.TrimSuffix(filepath.Base(path), ".json")
		m := readManifest(dir, other)
		if other == name || m == nil || !specGone(dir, m.Spec.File) {
			continue
		}
		for _, file := range slices.Sorted(maps.Keys(m.Outputs)) {
			// Nothing stops two manifests from listing one file.
			if _, ok := wanted[file]; !ok {
				add(file)
			}
		}
		add(other + ".json") // last, so that an interrupted removal can be resumed
	}
	return list
}

// specGone reports whether a spec was removed or renamed. That its directory is
// still there distinguishes this from output that was copied without its spec.
func specGone(dir, file string) bool {
	if file == "" {
		return false
	}
	path := filepath.Join(dir, filepath.FromSlash(file))
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return false
	}
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
