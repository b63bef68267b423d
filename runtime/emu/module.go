package emu

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/emu/ptx"
	"github.com/moegen/moegen/runtime/emu/race"
)

// constLabel marks the ranges of .const variables.
const constLabel = "constant variable"

// parseCache keeps parsed modules, as every device loads the same ones.
type parseCache struct {
	mu sync.Mutex
	m  map[[32]byte]*ptx.Module
}

func (c *parseCache) parse(name string, src []byte) (*ptx.Module, error) {
	key := sha256.Sum256(append([]byte(name+"\x00"), src...))
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.m[key]; m != nil {
		return m, nil
	}
	m, err := ptx.Parse(name, src)
	if err != nil {
		return nil, err
	}
	const most = 64
	if c.m == nil || len(c.m) == most {
		c.m = map[[32]byte]*ptx.Module{}
	}
	c.m[key] = m
	return m, nil
}

// module is loaded code with its variables.
type module struct {
	dev      *Device
	name     string
	funcs    map[string]*function
	vars     []uint64
	unloaded atomic.Bool
}

// function is a kernel.
type function struct {
	m *module
	p *program
}

// LoadModule parses and lowers PTX. Whatever it cannot execute fails here.
func (v *Device) LoadModule(im driver.Image) (driver.Module, error) {
	const op = "cuModuleLoadData"
	if err := v.d.enter(op, v); err != nil {
		return nil, err
	}
	if len(im.PTX) == 0 {
		if len(im.Cubin) > 0 {
			return nil, fail(op, driver.CodeNoBinaryForGPU, "%s: the emulator executes PTX, the image has only a cubin", im.Name)
		}
		return nil, fail(op, driver.CodeInvalidImage, "%s: the image is empty", im.Name)
	}
	pm, err := v.d.parsed.parse(im.Name, im.PTX)
	if err != nil {
		return nil, fail(op, driver.CodeInvalidPTX, "%v", err)
	}
	if err := v.checkTarget(op, pm); err != nil {
		return nil, err
	}
	m := &module{dev: v, name: im.Name, funcs: map[string]*function{}}
	vars := map[string]uint64{}
	for i := range pm.Globals {
		g := &pm.Globals[i]
		if g.Space != ptx.Global && g.Space != ptx.Const {
			continue
		}
		label := "variable " + g.Name
		if g.Space == ptx.Const {
			label = constLabel
		}
		a, err := v.alloc(uint64(max(g.Size(), 1)), rangeModule, label)
		if err != nil {
			m.free()
			return nil, fail(op, driver.CodeOutOfMemory, "%s: %v", g.Name, err)
		}
		m.vars = append(m.vars, a)
		vars[g.Name] = a
		if c := v.d.check; c != nil {
			c.hostAccess(a, uint64(max(g.Size(), 1)), race.Write)
		}
		if len(g.Init) > 0 {
			if err := v.d.mem.copyIn(op, a, g.Init); err != nil {
				m.free()
				return nil, err
			}
		}
	}
	for _, f := range pm.Funcs {
		p, err := lowerFunc(f, pm, vars)
		if err != nil {
			m.free()
			return nil, fail(op, driver.CodeInvalidPTX, "%s: %v", im.Name, err)
		}
		if c := v.d.check; c != nil {
			c.instrument(p)
		}
		m.funcs[f.Name] = &function{m, p}
	}
	return m, nil
}

// checkTarget refuses code for a newer GPU, and, as architecture-specific code
// (sm_90a) runs on its own architecture only, code for another one.
func (v *Device) checkTarget(op string, pm *ptx.Module) error {
	t := strings.TrimPrefix(pm.Target, "sm_")
	num := strings.TrimRight(t, "af")
	n, err := strconv.Atoi(num)
	if err != nil {
		return fail(op, driver.CodeInvalidPTX, "%s: .target %s", pm.Name, pm.Target)
	}
	have := v.d.cfg.CC[0]*10 + v.d.cfg.CC[1]
	suffix := t[len(num):]
	switch {
	case n > have, suffix == "a" && n != have, suffix == "f" && n/10 != have/10:
		return fail(op, driver.CodeNoBinaryForGPU, "%s: .target %s does not run on sm_%d", pm.Name, pm.Target, have)
	}
	return nil
}

// Function returns a kernel.
func (m *module) Function(name string) (driver.Function, error) {
	const op = "cuModuleGetFunction"
	if err := m.dev.d.enter(op, m.dev); err != nil {
		return nil, err
	}
	if m.unloaded.Load() {
		return nil, fail(op, driver.CodeInvalidHandle, "the module was unloaded")
	}
	f, ok := m.funcs[name]
	if !ok {
		return nil, fail(op, driver.CodeNotFound, "%s has no kernel %s", m.name, name)
	}
	return f, nil
}

// Unload waits for the device and drops the module's variables.
func (m *module) Unload() error {
	const op = "cuModuleUnload"
	if err := m.dev.d.enter(op, nil); err != nil {
		return err
	}
	if m.unloaded.Swap(true) {
		return fail(op, driver.CodeInvalidHandle, "the module was unloaded before")
	}
	if err := m.dev.idle(); err != nil {
		m.dev.d.log.Debug("unloading after a device error", "device", m.dev.ordinal, "err", err)
	}
	m.free()
	return nil
}

func (m *module) free() {
	for _, a := range m.vars {
		if r := m.dev.d.mem.lookup(a); r != nil {
			_ = m.dev.d.freeRange("cuModuleUnload", r)
		}
	}
	m.vars = nil
}

// Name is the kernel's name.
func (f *function) Name() string { return f.p.fn.Name }

// MaxActiveBlocks returns how many such blocks fit a multiprocessor, by
// threads, shared memory and the number of blocks. Registers do not count: PTX
// does not say how many the hardware would use.
func (f *function) MaxActiveBlocks(threads int, sharedBytes uint64) (int, error) {
	const op = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
	if err := f.m.dev.d.enter(op, f.m.dev); err != nil {
		return 0, err
	}
	if threads < 1 {
		return 0, fail(op, driver.CodeInvalidValue, "%d threads", threads)
	}
	return f.m.dev.d.occupancy(f.p, threads, sharedBytes), nil
}

func (d *Driver) occupancy(p *program, threads int, shared uint64) int {
	total := uint64(p.dynBase) + shared
	if threads > maxThreadsPerBlock || total > sharedPerBlock {
		return 0
	}
	n := min(maxBlocksPerSM, maxThreadsPerSM/int(alignUp(uint64(threads), 32)))
	n = min(n, int(sharedPerSM/(total+sharedReserved)))
	if c := d.cfg.ResidentBlocksPerSM; c > 0 {
		n = min(n, c)
	}
	return n
}
