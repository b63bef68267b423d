package gen

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// Manifest says what a generated package was made of. Hashes are SHA-256 in
// hex.
type Manifest struct {
	Generator string `json:"generator"` // the generated header
	// Moegen and Templates say what wrote the files first. A new generator that
	// writes the same files leaves them as they are.
	Moegen     string            `json:"moegen,omitempty"`
	Templates  string            `json:"templates"`
	Spec       ManifestSpec      `json:"spec"`
	Package    string            `json:"package"`
	Prefix     string            `json:"prefix,omitempty"`
	NoTest     bool              `json:"no_test,omitempty"`
	Transports []string          `json:"transports"`
	Kernels    []Kernel          `json:"kernels"`
	PTX        *ManifestPTX      `json:"ptx,omitempty"`
	Outputs    map[string]string `json:"outputs"` // hash by file name; without the manifest itself
}

// ManifestSpec identifies a spec.
type ManifestSpec struct {
	File string `json:"file,omitempty"` // relative to the package; "" for one from elsewhere
	Hash string `json:"hash"`           // of what it says, see spec.Spec.Hash
}

// ManifestPTX says where the PTX came from.
type ManifestPTX struct {
	Source   string `json:"source"` // hash of the CUDA source
	Arch     string `json:"arch"`
	Compiler string `json:"compiler"`
}

func hash(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (m *Manifest) record(files map[string][]byte) {
	m.Outputs = make(map[string]string, len(files))
	for name, data := range files {
		m.Outputs[name] = hash(data)
	}
}

func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	err := e.Encode(m)
	return b.Bytes(), err
}

// decodeManifest returns nil for what is not a manifest of ours.
func decodeManifest(data []byte) *Manifest {
	m := new(Manifest)
	if json.Unmarshal(data, m) != nil || m.Generator != header {
		return nil
	}
	for name := range m.Outputs {
		// Nothing outside the package's directory is ours to look at or remove.
		if name != filepath.Base(name) || !strings.Contains(name, suffix) {
			return nil
		}
	}
	return m
}

// readManifest returns the manifest of an earlier run, nil if there is none.
func readManifest(dir, name string) *Manifest {
	data, err := os.ReadFile(filepath.Join(dir, name+".json"))
	if err != nil {
		return nil
	}
	return decodeManifest(data)
}

// sameManifest reports whether two manifests describe the same output.
func sameManifest(a, b *Manifest) bool {
	x, y := *a, *b
	for _, m := range []*Manifest{&x, &y} {
		m.Moegen, m.Templates = "", ""
	}
	p, errP := x.encode()
	q, errQ := y.encode()
	return errP == nil && errQ == nil && bytes.Equal(p, q)
}

// version is moegen's, "" for one that was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs" {
			return ""
		}
	}
	const module = "github.com/moegen/moegen"
	for _, m := range append([]*debug.Module{&info.Main}, info.Deps...) {
		if m.Path == module && m.Version != "(devel)" {
			return m.Version
		}
	}
	return ""
}

// relative returns the path of a spec from dir, with slashes, if both are in
// one module, or the spec below dir. Else it is "": the way there differs from
// machine to machine.
func relative(dir, file string) string {
	d, errD := filepath.Abs(dir)
	f, errF := filepath.Abs(file)
	if errD != nil || errF != nil {
		return ""
	}
	if rel, err := filepath.Rel(moduleRoot(d), f); err != nil || !filepath.IsLocal(rel) {
		return ""
	}
	rel, err := filepath.Rel(d, f)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(rel)
}

// moduleRoot returns the directory of the go.mod that governs dir, or dir.
func moduleRoot(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// Manifest returns the set's manifest. The caller must not change it.
func (set *FileSet) Manifest() *Manifest { return set.manifest }
