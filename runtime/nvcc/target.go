package nvcc

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Source is a CUDA translation unit. It has to be self-contained, but for the
// compiler's own headers.
type Source struct {
	Name string // for messages; the base name also names the cache entry
	Text []byte
}

// Target says what to compile for.
type Target struct {
	Arch     string // "sm_90a"
	PTX      bool   // PTX for compute_90a instead of a cubin for sm_90a
	LineInfo bool   // keep source lines (.loc), for profilers and messages
}

// Kind is the form of an image.
type Kind string

// The forms of an image. The values are the file extensions.
const (
	Cubin Kind = "cubin"
	PTX   Kind = "ptx"
)

func (t Target) kind() Kind {
	if t.PTX {
		return PTX
	}
	return Cubin
}

var archName = regexp.MustCompile(`^sm_[1-9][0-9]{1,2}[af]?$`)

// flags returns the compiler's flags but for the names of files: all of the options
// that decide what the image is.
func (t Target) flags() ([]string, error) {
	if !archName.MatchString(t.Arch) {
		return nil, fmt.Errorf("nvcc: %q is no architecture; write it as sm_90a or sm_100a", t.Arch)
	}
	virtual := "compute_" + strings.TrimPrefix(t.Arch, "sm_")
	flags := []string{"-std=c++17", "-O3", "-Werror", "all-warnings"}
	if t.LineInfo {
		flags = append(flags, "-lineinfo")
	}
	if t.PTX {
		return append(flags, "--generate-code", "arch="+virtual+",code="+virtual, "-ptx"), nil
	}
	return append(flags, "--generate-code", "arch="+virtual+",code="+t.Arch, "-Xptxas", "-v", "-cubin"), nil
}

// job is one compilation: everything that decides its result, and the hashes of it.
type job struct {
	src    Source
	base   string // the source's file name, as the compiler sees it
	target Target
	flags  []string
	input  string // hash of all that goes in, but for the compiler's version
}

func newJob(src Source, target Target) (*job, error) {
	flags, err := target.flags()
	if err != nil {
		return nil, err
	}
	if src.Name == "" {
		src.Name = "kernel.cu"
	}
	j := &job{src: src, base: fileName(src.Name), target: target, flags: flags}
	// nvcc takes flags from these two as well, so they belong to the flags.
	fields := append([]string{"moegen nvcc cache v1", string(target.kind()), j.base, string(src.Text),
		os.Getenv("NVCC_PREPEND_FLAGS"), os.Getenv("NVCC_APPEND_FLAGS")}, flags...)
	j.input = hash(fields...)
	return j, nil
}

// key is the cache key with a compiler of the given version.
func (j *job) key(version string) string { return hash("moegen nvcc key v1", version, j.input) }

// entry is the name of the cache entry with the given key.
func (j *job) entry(key string) string { return j.stem() + "." + key }

// stem is the source's file name without its extension.
func (j *job) stem() string { return strings.TrimSuffix(j.base, ".cu") }

func (j *job) String() string { return j.src.Name + " for " + j.target.Arch }

// hash is the SHA-256 of the fields, each with its length, so that moving bytes from
// one field to the next changes it.
func hash(fields ...string) string {
	h := sha256.New()
	var n [8]byte
	for _, f := range fields {
		binary.BigEndian.PutUint64(n[:], uint64(len(f)))
		h.Write(n[:])
		h.Write([]byte(f))
	}
	return hex.EncodeToString(h.Sum(nil))
}

var notInFileName = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// fileName makes a short, harmless file name with the extension .cu of a source's
// name. Only this goes into the key and into the compiler's output, so that one
// source has one image wherever the checkout lies.
func fileName(name string) string {
	base := strings.TrimSuffix(path.Base(filepath.ToSlash(name)), ".cu")
	// A leading dot would hide the entry, a leading dash make it an option.
	base = strings.TrimLeft(notInFileName.ReplaceAllString(base, "_"), ".-")
	if base == "" {
		base = "kernel"
	}
	return base[:min(len(base), 80)] + ".cu"
}
