package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
)

// Compile returns the image of a source for a target, from the cache or by running the
// compiler. It can be called by several goroutines and processes at once; one of them
// compiles, the others take what it made. Errors in the source are a *CompileError,
// MOEGEN_DISABLE_JIT with no cached image a *DisabledError. When ctx ends, the compiler
// and the processes it started are killed.
func (c *Compiler) Compile(ctx context.Context, src Source, target Target) (Image, error) {
	j, err := newJob(src, target)
	if err != nil {
		return Image{}, err
	}
	dir, err := privateDir()
	store := &cache{dir: dir, broken: err, write: writeSynced}
	return flights.do(ctx, hash(dir, c.Path, src.Name, j.key(c.Version)), func() (Image, error) {
		return c.compile(ctx, store, j)
	})
}

// compile is Compile for the one goroutine that does the work.
func (c *Compiler) compile(ctx context.Context, store *cache, j *job) (Image, error) {
	key := j.key(c.Version)
	if img, err := store.load(j, key); err == nil {
		return img, nil
	}
	if disabled() {
		return Image{}, &DisabledError{Name: j.src.Name, Arch: j.target.Arch, Kind: j.target.kind(), Key: key, CacheDir: store.dir}
	}
	if err := ctx.Err(); err != nil {
		return Image{}, fmt.Errorf("nvcc: compiling %s: %w", j, err)
	}
	if err := store.prepare(); err != nil {
		return c.compileOutside(ctx, j, fmt.Sprintf("the cache cannot be used, so the image is not kept: %v", err))
	}
	held := store.lock(ctx, j.entry(key))
	defer held.release()
	if img, err := store.load(j, key); err == nil { // whoever held the lock made it
		return img, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		store.discard(j.entry(key))
	}
	img, err := c.compileInto(ctx, store, j)
	if err != nil {
		return Image{}, err
	}
	if held.warning != "" {
		img.Warnings = append(img.Warnings, held.warning)
	}
	return img, nil
}

// compileInto compiles in the cache's directory and stores the image there.
func (c *Compiler) compileInto(ctx context.Context, store *cache, j *job) (Image, error) {
	store.sweep()
	work, err := store.newWork()
	if err != nil {
		return c.compileOutside(ctx, j, fmt.Sprintf("the cache cannot be written, so the image is not kept: %v", err))
	}
	defer work.remove()
	img, err := c.compileIn(ctx, work.dir, j)
	if err != nil {
		if ctx.Err() == nil && maybeDirectory(err) {
			var ce *CompileError
			if errors.As(err, &ce) {
				ce.Hint = "" // a guess, which success elsewhere refutes
			}
			return c.compileOutside(ctx, j, fmt.Sprintf("the compiler fails in the cache %s and not elsewhere (is it full?), so the image is not kept: %v", store.dir, err))
		}
		return Image{}, err
	}
	return store.put(work, j, c.Version, img), nil
}

// disabled reports whether MOEGEN_DISABLE_JIT is set; what is no boolean counts as
// yes, since who sets it to "on" means it.
func disabled() bool {
	v := os.Getenv("MOEGEN_DISABLE_JIT")
	if v == "" {
		return false
	}
	off, err := strconv.ParseBool(v)
	return err != nil || off
}

// flights joins the calls of this process that want the same image.
var flights = flightGroup{m: make(map[string]*flight)}

type flightGroup struct {
	mu sync.Mutex
	m  map[string]*flight
}

type flight struct {
	done chan struct{}
	img  Image
	err  error
}

// do runs work, or waits for a call that runs it already. It is not x/sync's
// singleflight since one caller's end must not be the end of those who wait: when the
// call that did the work was cancelled, one of them takes over.
func (g *flightGroup) do(ctx context.Context, id string, work func() (Image, error)) (Image, error) {
	for {
		g.mu.Lock()
		f, running := g.m[id]
		if !running {
			f = &flight{done: make(chan struct{}), err: errors.New("nvcc: the compilation panicked")}
			g.m[id] = f
		}
		g.mu.Unlock()
		if !running {
			return g.lead(id, f, work)
		}
		select {
		case <-ctx.Done():
			return Image{}, fmt.Errorf("nvcc: waiting for another compilation: %w", ctx.Err())
		case <-f.done:
		}
		cancelled := errors.Is(f.err, context.Canceled) || errors.Is(f.err, context.DeadlineExceeded)
		if cancelled && ctx.Err() == nil {
			continue
		}
		return f.img.clone(), f.err
	}
}

func (g *flightGroup) lead(id string, f *flight, work func() (Image, error)) (Image, error) {
	defer func() {
		g.mu.Lock()
		delete(g.m, id)
		g.mu.Unlock()
		close(f.done)
	}()
	img, err := work()
	f.img, f.err = img, err
	return img.clone(), err
}
