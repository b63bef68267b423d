package bench

import (
	_ "embed"
	"encoding/binary"
	"errors"

	"github.com/moegen/moegen/runtime/driver"
)

//go:embed kernels.ptx
var kernelsPTX []byte

// patience is some seconds: a poll of a peer takes about 1 us.
const patience = 1 << 22

var oneThread = driver.LaunchConfig{Grid: driver.Dim3{X: 1}, Block: driver.Dim3{X: 1}}

// launch is one kernel launch, which can be repeated.
type launch struct {
	f      driver.Function
	config driver.LaunchConfig
	params []byte
}

func (l launch) on(s driver.Stream) error { return s.Launch(l.f, l.config, l.params) }

// with returns the launch with another grid.
func (l launch) with(blocks, threads int) launch {
	l.config.Grid.X, l.config.Block.X = blocks, threads
	return l
}

// recorder is a stream that keeps the launches that it passes on.
type recorder struct {
	driver.Stream
	launches []launch
}

func (r *recorder) Launch(f driver.Function, c driver.LaunchConfig, params []byte) error {
	r.launches = append(r.launches, launch{f, c, append([]byte(nil), params...)})
	return r.Stream.Launch(f, c, params)
}

// loadKernels loads the package's own kernels on every rank's device.
func (b *bench) loadKernels() error {
	b.kernels = map[string][]driver.Function{}
	for _, m := range b.members {
		module, err := m.Dispatcher.Device().LoadModule(driver.Image{Name: "bench", PTX: kernelsPTX})
		if err != nil {
			return err
		}
		b.undo = append(b.undo, module.Unload)
		for _, name := range []string{"empty", "late", "pingpong_ordered", "pingpong_relaxed", "stores"} {
			f, err := module.Function(name)
			if err != nil {
				return err
			}
			b.kernels[name] = append(b.kernels[name], f)
		}
	}
	return nil
}

// single is a launch of one thread of one of the package's own kernels.
func (b *bench) single(name string, rank int, pointers []driver.DevicePtr, ints ...int) launch {
	var p []byte
	// Pointers come first, so everything lies at its natural alignment.
	for _, ptr := range pointers {
		p = binary.LittleEndian.AppendUint64(p, uint64(ptr))
	}
	for _, i := range ints {
		p = binary.LittleEndian.AppendUint32(p, uint32(i))
	}
	return launch{b.kernels[name][rank], oneThread, p}
}

// shared makes memory of at least so many bytes on every rank's device that all
// ranks' devices reach: one rank's behind the other's, all equally far apart.
func (b *bench) shared(size uint64) (windows []driver.DevicePtr, err error) {
	d := b.members[0].Dispatcher.Device().Driver()
	unit := uint64(1)
	for _, m := range b.members {
		u, err := m.Dispatcher.Device().Granularity(driver.HandleNone)
		if err != nil {
			return nil, err
		}
		unit = max(unit, u)
	}
	size = (size + unit - 1) / unit * unit
	all := size * uint64(len(b.members))
	first, err := d.Reserve(all, unit)
	if err != nil {
		return nil, err
	}
	b.undo = append(b.undo, func() error { return d.Unreserve(first, all) })
	for rank, m := range b.members {
		mem, err := m.Dispatcher.Device().CreateMemory(size, driver.HandleNone)
		if err != nil {
			return nil, err
		}
		b.undo = append(b.undo, mem.Release)
		p := first + driver.DevicePtr(uint64(rank)*size)
		if err := d.Map(p, size, mem, 0); err != nil {
			return nil, err
		}
		b.undo = append(b.undo, func() error { return d.Unmap(p, size) })
		if err := d.SetAccess(p, size, d.Devices()...); err != nil {
			return nil, err
		}
		windows = append(windows, p)
	}
	return windows, nil
}

// release undoes what was acquired, the last first.
func (b *bench) release() error {
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i]())
	}
	b.undo = nil
	return errors.Join(errs...)
}
