package gpu

import (
	"context"
	"testing"

	"github.com/moegen/moegen/runtime/driver"
)

// floor is what the machine can do at best.
type floor struct {
	EmptyNode   float64 `json:"empty_node_us"`
	OneWayFlag  float64 `json:"one_way_flag_us"`
	PeerCopyGBs float64 `json:"peer_copy_gb_per_s"`
}

// bound is the least that any exchange in one phase takes, in microseconds.
func (f floor) bound(bytes int) float64 {
	return f.EmptyNode + f.OneWayFlag + float64(bytes)/(f.PeerCopyGBs*1e3)
}

func measureFloor(t *testing.T, x *timer) floor {
	t.Helper()
	m := x.machine
	kernels := []func(string) driver.Function{helpers(t, m.ranks()[0]), helpers(t, m.ranks()[1])}
	kernel := func(name string) [2]driver.Function { return [2]driver.Function{kernels[0](name), kernels[1](name)} }
	size := pick(m, uint64(256<<20), 1<<20)
	memory := [2]driver.DevicePtr{m.shared(t, m.ranks()[0], size), m.shared(t, m.ranks()[1], size)}
	measured := func(us float64, err error) float64 {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return us
	}
	var f floor
	nodes := pick(m, 64, 4)
	empty := kernel("empty")
	f.EmptyNode = measured(x.graphs(nodes, func(rank int, s driver.Stream) error {
		return repeat(nodes, launch{empty[rank], oneThread, nil})(s)
	}))

	// One way: only rank 0 copies.
	const copies = 4
	us := measured(x.runs(copies, func(rank int, s driver.Stream) error {
		for range copies * (1 - rank) {
			if err := s.CopyAsync(memory[1], memory[0], size); err != nil {
				return err
			}
		}
		return nil
	}))
	f.PeerCopyGBs = float64(size) / (us * 1e3)
	f.OneWayFlag = measured(pingPong(x, kernel("pingpong"), memory, pick(m, 2000, 20)))
	return f
}

// pingPong returns the microseconds that a flag takes from one rank to the
// other.
func pingPong(x *timer, kernels [2]driver.Function, memory [2]driver.DevicePtr, rounds int) (float64, error) {
	// Flags count up from 0 in every launch, so each has to be cleared before,
	// on both ranks before either starts: hence one launch for each measurement.
	var best float64
	for range x.replays {
		err := x.each(func(_ context.Context, rank int) error {
			return x.d[rank].Device().Write(memory[rank], make([]byte, 8))
		})
		if err != nil {
			return 0, err
		}
		us, err := x.single(rounds, func(rank int, s driver.Stream) error {
			first := 1 - rank
			p := pack([]driver.DevicePtr{memory[rank], memory[1-rank]}, rounds, first, patience)
			return s.Launch(kernels[rank], oneThread, p)
		})
		if err != nil {
			return 0, err
		}
		if best == 0 || us < best {
			best = us
		}
	}
	return best / 2, nil
}
