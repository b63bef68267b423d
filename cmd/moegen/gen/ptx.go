package gen

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moegen/moegen/runtime/nvcc"
)

// addPTX adds the source's PTX: the one that is there if it was compiled from
// the same source, whichever compiler that was, so that two people with
// different compilers do not overwrite each other's; else a new one.
func (set *FileSet) addPTX(ctx context.Context, arch string, source []byte, check bool, old *Manifest) error {
	file := set.Name + ".ptx"
	if kept := keptPTX(filepath.Join(set.Dir, file), arch, source, old); kept != nil {
		set.Files[file], set.manifest.PTX = kept, old.PTX
		return nil
	}
	set.manifest.PTX = &ManifestPTX{Source: hash(source), Arch: arch}
	if check {
		set.unknownPTX = true
		return nil
	}
	c, err := set.compiler(ctx)
	if err != nil {
		return fmt.Errorf("the kernels cannot be compiled to PTX: %w\nor generate without PTX (-no-ptx): the package then needs nvcc wherever it runs, in the emulator as well", err)
	}
	im, err := c.Compile(ctx, nvcc.Source{Name: set.Name + ".cu", Text: source}, nvcc.Target{Arch: arch, PTX: true})
	if err != nil {
		return err
	}
	set.Files[file] = append([]byte("// "+header+"\n"), im.Data...)
	set.manifest.PTX.Compiler = "nvcc " + c.Version
	return nil
}

func (set *FileSet) compiler(ctx context.Context) (*nvcc.Compiler, error) {
	if set.nvcc != "" {
		return nvcc.At(ctx, set.nvcc)
	}
	return nvcc.Find(ctx)
}

// keptPTX returns the PTX at path if the manifest says that it is what a
// compiler made of source, and nil otherwise.
func keptPTX(path, arch string, source []byte, old *Manifest) []byte {
	if old == nil || old.PTX == nil || old.PTX.Source != hash(source) || old.PTX.Arch != arch {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil || hash(data) != old.Outputs[filepath.Base(path)] {
		return nil
	}
	return data
}
