// Package templates holds the CUDA side of moegen: primitives in .cuh files,
// one template per kernel family, and the demonstration experts. The generator
// assembles from them one self-contained source for each spec.
package templates

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
)

//go:embed cuda
var files embed.FS

// CUDA returns the kernel templates, by file name.
func CUDA() fs.FS {
	sub, err := fs.Sub(files, "cuda")
	if err != nil {
		panic(err) // the folder is embedded above
	}
	return sub
}

// Hash identifies the templates' contents: hex SHA-256 over names and bytes.
func Hash() string {
	h := sha256.New()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(path)
		h.Write([]byte(path))
		h.Write([]byte{0})
		h.Write(data)
		return err
	})
	if err != nil {
		panic(err) // an embedded file can be read
	}
	return hex.EncodeToString(h.Sum(nil))
}

//go:embed experts.cu
var expertsSource []byte

// Experts returns the demonstration experts' CUDA source with a model's C
// header in place of its #include; a nil header leaves the shape to the launch.
func Experts(header []byte) []byte {
	return bytes.Replace(expertsSource, []byte("#include \"moe_moegen.h\"\n"), header, 1)
}

// ExpertsPTX is Experts(nil) compiled for sm_90a, for machines without nvcc and
// for the emulator.
//
//go:generate go test ../cmd/moegen/layer -run ^TestExpertsPTX$ -update
//go:embed experts.ptx
var ExpertsPTX []byte
