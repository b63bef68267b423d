package runtime

import (
	"context"
	"errors"
	"fmt"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/nvcc"
)

// LoadSource loads a CUDA source on a device: from the cache of compiled
// images, else compiled by nvcc, else from ptx (which may be empty), which the
// driver compiles. The emulator executes PTX: ptx if it is given. The returned
// string says which it was. The source may have variables: every module has its
// own.
func LoadSource(ctx context.Context, d driver.Device, name string, source, ptx []byte) (driver.Module, string, error) {
	im, from, err := imageOf(ctx, d, name, source, ptx)
	if err != nil {
		return nil, "", err
	}
	return loadImage(d, im, from)
}

// loadProgram is LoadSource for moegen's own kernels. They have no variables, so
// that dispatchers that come and go need not load them again.
func loadProgram(ctx context.Context, d driver.Device, p *Program) (driver.Module, string, error) {
	im, from, err := imageOf(ctx, d, p.Name+".cu", p.Source, p.PTX)
	if err != nil {
		return nil, "", err
	}
	im.Keep = true
	return loadImage(d, im, from)
}

// imageOf is what LoadSource loads, and where it is from.
func imageOf(ctx context.Context, d driver.Device, name string, source, ptx []byte) (driver.Image, string, error) {
	info := d.Info()
	src := nvcc.Source{Name: name, Text: source}
	if d.Driver().Name() == "emu" {
		if len(ptx) > 0 {
			return driver.Image{Name: name, PTX: ptx}, "embedded PTX", nil
		}
		im, err := compile(ctx, src, nvcc.Target{Arch: emulatedArch, PTX: true})
		if err != nil {
			return driver.Image{}, "", err
		}
		from := "PTX from nvcc"
		if im.FromCache {
			from = "cached PTX"
		}
		return driver.Image{Name: name, PTX: im.Data}, from, nil
	}

	arch := fmt.Sprintf("sm_%d%d", info.Major, info.Minor)
	if info.Major >= 9 {
		arch += "a" // architecture-specific features; cubins are made for this GPU alone
	}
	im, err := compile(ctx, src, nvcc.Target{Arch: arch})
	if err == nil {
		from := "nvcc " + arch
		if im.FromCache {
			from = "cached cubin " + arch
		}
		return driver.Image{Name: name, Cubin: im.Data}, from, nil
	}
	// An error in the source is the generator's or the user's to mend; only the
	// lack of a compiler makes the embedded PTX the right thing to use.
	var ce *nvcc.CompileError
	if errors.As(err, &ce) || len(ptx) == 0 {
		return driver.Image{}, "", err
	}
	return driver.Image{Name: name, PTX: ptx}, "embedded PTX, compiled by the driver", nil
}

// emulatedArch is what sources are compiled for when the emulator runs them.
const emulatedArch = "sm_90a"

func compile(ctx context.Context, src nvcc.Source, target nvcc.Target) (nvcc.Image, error) {
	c, err := nvcc.Find(ctx)
	if err != nil {
		// A cache filled elsewhere serves machines without a compiler.
		if im, cerr := nvcc.Cached(src, target); cerr == nil {
			return im, nil
		}
		return nvcc.Image{}, err
	}
	return c.Compile(ctx, src, target)
}

func loadImage(d driver.Device, im driver.Image, from string) (driver.Module, string, error) {
	m, err := d.LoadModule(im)
	if err != nil {
		return nil, "", fmt.Errorf("load %s (%s) on GPU %d: %w", im.Name, from, d.Ordinal(), err)
	}
	return m, from, nil
}
