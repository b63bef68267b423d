package gpu

import (
	"context"
	"errors"
	"sync"

	moert "github.com/moegen/moegen/runtime"
	"github.com/moegen/moegen/runtime/driver"
	"github.com/moegen/moegen/runtime/symm"
)

// onBoth calls f for both ranks, one after the other or at the same time.
func (x *growth) onBoth(atOnce bool, f func(rank int, d driver.Device) error) error {
	errs := make([]error, 2)
	var wg sync.WaitGroup
	for rank, d := range x.ranks(2) {
		call := func() { errs[rank] = f(rank, d) }
		if atOnce {
			wg.Go(call)
		} else {
			call()
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (x *growth) inTurn(f func(rank int, d driver.Device) error) func() error {
	return func() error { return x.onBoth(false, f) }
}

func (x *growth) stream(_ int, d driver.Device) error {
	s, err := d.NewStream()
	if err != nil {
		return err
	}
	return s.Close()
}

func (x *growth) launch(rank int, d driver.Device) error {
	s, err := d.NewStream()
	if err != nil {
		return err
	}
	return errors.Join(x.pass(s, x.gates[rank], rank), s.Close())
}

// pass runs a gate that is open.
func (x *growth) pass(s driver.Stream, gate driver.Function, rank int) error {
	if err := s.Launch(gate, oneThread, pack([]driver.DevicePtr{x.words[rank].Ptr()}, 1)); err != nil {
		return err
	}
	return s.Synchronize()
}

// module loads the dispatchers' kernels as they do not: not to be kept.
func (x *growth) module(_ int, d driver.Device) error {
	m, _, err := moert.LoadSource(context.Background(), d, x.prog.Name+".cu", x.prog.Source, x.prog.PTX)
	if err != nil {
		return err
	}
	return m.Unload()
}

func (x *growth) moduleLaunch(rank int, d driver.Device) error {
	m, err := d.LoadModule(driver.Image{Name: "helpers", PTX: []byte(helperPTX)})
	if err != nil {
		return err
	}
	gate, err := m.Function("gate")
	if err == nil {
		err = x.pass(x.kept[rank], gate, rank)
	}
	return errors.Join(err, m.Unload())
}

// memory has the sizes of a dispatcher's private state and output, and of the
// rig's inputs.
func (x *growth) memory(_ int, d driver.Device) error {
	p, rows := x.prog, rowBytes(x.prog)
	var made []driver.DevicePtr
	var err error
	for _, size := range []uint64{p.Layout.Control, uint64(p.MaxPrefill() * p.OutputRowBytes()),
		uint64(p.MaxTokens * rows[0]), uint64(p.MaxTokens * rows[1]), uint64(p.MaxTokens * rows[2])} {
		at, allocErr := d.Alloc(size)
		if err = errors.Join(err, allocErr); allocErr == nil {
			made = append(made, at)
		}
	}
	for _, at := range made {
		err = errors.Join(err, d.Free(at))
	}
	return err
}

func (x *growth) host(_ int, d driver.Device) error {
	h, err := d.AllocHost(64)
	if err != nil {
		return err
	}
	return h.Free()
}

// calls makes what package symm makes, memory of both ranks mapped for both, with
// the driver's calls alone. The cycles end where one fails.
func (x *growth) calls(atOnce bool) error {
	granularity, err := x.ranks(2)[0].Granularity(driver.HandleNone)
	if err != nil {
		return err
	}
	size := (x.prog.Layout.Bytes + granularity - 1) / granularity * granularity
	var memory [2]driver.Memory
	var at [2][2]driver.DevicePtr
	// What one rank needs of the other is there when the next of these begins.
	for _, phase := range []func(rank int, d driver.Device) error{
		func(rank int, d driver.Device) (err error) {
			memory[rank], err = d.CreateMemory(size, driver.HandleNone)
			return err
		},
		func(rank int, d driver.Device) (err error) {
			for peer := range memory {
				if at[rank][peer], err = x.Reserve(size, granularity); err != nil {
					return err
				}
				if err = x.Map(at[rank][peer], size, memory[peer], 0); err != nil {
					return err
				}
				if err = x.SetAccess(at[rank][peer], size, d); err != nil {
					return err
				}
			}
			return nil
		},
		func(rank int, _ driver.Device) error {
			for _, p := range at[rank] {
				if err := errors.Join(x.Unmap(p, size), x.Unreserve(p, size)); err != nil {
					return err
				}
			}
			return memory[rank].Release()
		},
	} {
		if err := x.onBoth(atOnce, phase); err != nil {
			return err
		}
	}
	return nil
}

// symmetric is allocated by both ranks at once: they wait for each other.
func (x *growth) symmetric(closeAtOnce bool) error {
	group, err := x.group()
	if err != nil {
		return err
	}
	var memory [2]*symm.Memory
	if err := group.Each(context.Background(), func(ctx context.Context, rank int) (err error) {
		l := x.prog.Layout
		memory[rank], err = symm.VMM{}.Allocate(ctx, group, symm.Request{Device: x.ranks(2)[rank], Rank: rank, Bytes: l.Bytes, Clear: l.Routing})
		return err
	}); err != nil {
		return err
	}
	return errors.Join(x.onBoth(closeAtOnce, func(rank int, _ driver.Device) error { return memory[rank].Close() }), group.Close())
}

// dispatchers is what testMemory does.
func (x *growth) dispatchers(withStep bool) error {
	r, err := tryOpen(x.machine, x.prog, moert.WithTransport(moert.P2P))
	if err == nil && withStep {
		err = r.each(func(_ context.Context, rank int) error {
			return errors.Join(r.step(rank, 1), r.d[rank].Synchronize(r.streams[rank]))
		})
	}
	r.close(x.t)
	return err
}
