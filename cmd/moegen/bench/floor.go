package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Floor is what the machine can do at best, measured between ranks 0 and 1.
type Floor struct {
	EmptyNode   float64 `json:"empty_node_us"`           // an empty kernel as a graph's node
	Flag        float64 `json:"one_way_flag_us"`         // a word from GPU to GPU, st.relaxed to ld.relaxed
	OrderedFlag float64 `json:"one_way_ordered_flag_us"` // the same, st.release to ld.acquire
	PeerCopyGBs float64 `json:"peer_copy_gb_per_s"`      // a copy from GPU to GPU, one way
}

// Bound is the least that an exchange of bytes (that each rank sends) takes in
// one phase, in microseconds: a node, a flag, and the bytes at the copy's speed.
func (f Floor) Bound(bytes int) float64 {
	return f.EmptyNode + f.Flag + float64(bytes)/(f.PeerCopyGBs*1e3)
}

func (b *bench) measureFloor() (Floor, error) {
	var f Floor
	nodes := b.effort.nodes(1)
	empty, err := b.graph(nodes, b.effort.replays, func(rank int, s driver.Stream) error {
		return repeat(nodes, s, b.single("empty", rank, nil))
	})
	if err != nil {
		return f, fmt.Errorf("empty kernels: %w", err)
	}
	f.EmptyNode = empty.Median

	var memory [2]driver.DevicePtr
	for rank := range memory {
		if memory[rank], err = b.shared(rank, b.effort.copyBytes); err != nil {
			return f, fmt.Errorf("memory that both ranks reach: %w", err)
		}
	}
	if f.Flag, err = b.pingPong("pingpong_relaxed", memory); err != nil {
		return f, err
	}
	if f.OrderedFlag, err = b.pingPong("pingpong_ordered", memory); err != nil {
		return f, err
	}
	// One way: only rank 0 copies.
	times, err := b.run(warm, min(b.effort.replays, 20), func(rank int, s driver.Stream) error {
		if rank != 0 {
			return nil
		}
		return s.CopyAsync(memory[1], memory[0], b.effort.copyBytes)
	})
	if err != nil {
		return f, fmt.Errorf("peer copy: %w", err)
	}
	f.PeerCopyGBs = float64(b.effort.copyBytes) / (slowest(times, 1).Median * 1e3)
	return f, nil
}

// pingPong returns the microseconds that a flag takes from rank 0 to rank 1 or
// back: the best of a few exchanges of many.
func (b *bench) pingPong(kernel string, memory [2]driver.DevicePtr) (float64, error) {
	var all []time.Duration
	for range 5 {
		// Flags count up from 0 in every launch: they are cleared before, on both
		// ranks before either starts. Hence a run for each measurement.
		for rank, p := range memory {
			if err := b.members[rank].Dispatcher.Device().Write(p, make([]byte, 8)); err != nil {
				return 0, err
			}
		}
		times, err := b.run(0, 1, func(rank int, s driver.Stream) error {
			if rank > 1 {
				return nil
			}
			pointers := []driver.DevicePtr{memory[rank], memory[1-rank]}
			return b.single(kernel, rank, pointers, b.effort.rounds, 1-rank, patience).on(s)
		})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", kernel, err)
		}
		for rank, p := range memory {
			flag := make([]byte, 4)
			if err := b.members[rank].Dispatcher.Device().Read(flag, p); err != nil {
				return 0, err
			}
			if got := int(flag[0]) | int(flag[1])<<8; got != b.effort.rounds {
				return 0, fmt.Errorf("%s: rank %d got flag %d of %d and gave up", kernel, rank, got, b.effort.rounds)
			}
		}
		// The faster rank's: the other one waited longer for it to start.
		all = append(all, min(times[0][0], times[1][0]))
	}
	return float64(slices.Min(all).Nanoseconds()) / 1e3 / float64(2*b.effort.rounds), nil
}
