package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/moegen/moegen/runtime/driver"
)

// Floor is what the machine can do at best: flags between ranks 0 and 1, copies
// from rank 0 to 1, stores from rank 0 to all others; and where it says both ways,
// copies from each rank to the next, stores from each to all others, at once.
type Floor struct {
	EmptyNode    float64 `json:"empty_node_us"`                // an empty kernel as a graph's node
	Flag         float64 `json:"one_way_flag_us"`              // a word from GPU to GPU, st.relaxed to ld.relaxed
	OrderedFlag  float64 `json:"one_way_ordered_flag_us"`      // the same, st.release to ld.acquire
	PeerCopyGBs  float64 `json:"peer_copy_gb_per_s"`           // a copy from GPU to GPU, one way
	BothCopyGBs  float64 `json:"peer_copy_both_ways_gb_per_s"` // copies both ways, each
	StoreGBs     float64 `json:"stores_gb_per_s"`              // stores of a kernel on all SMs that may be used, one way
	BothStoreGBs float64 `json:"stores_both_ways_gb_per_s"`    // such stores both ways, each
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

	if err := b.makeWindows(); err != nil {
		return f, fmt.Errorf("memory that all ranks reach: %w", err)
	}
	if f.Flag, err = b.pingPong("pingpong_relaxed"); err != nil {
		return f, err
	}
	if f.OrderedFlag, err = b.pingPong("pingpong_ordered"); err != nil {
		return f, err
	}
	copies := func(rank int, s driver.Stream) error {
		return s.CopyAsync(b.windows[b.next(rank)], b.windows[rank], b.effort.copyBytes)
	}
	stores := func(rank int, s driver.Stream) error { return b.stores(rank, b.effort.copyBytes).on(s) }
	for _, x := range []struct {
		to    *float64
		ranks int
		move  enqueue
	}{{&f.PeerCopyGBs, 1, copies}, {&f.BothCopyGBs, len(b.members), copies}, {&f.StoreGBs, 1, stores}, {&f.BothStoreGBs, len(b.members), stores}} {
		if *x.to, err = b.rate(x.ranks, x.move); err != nil {
			return f, fmt.Errorf("bytes to a peer: %w", err)
		}
	}
	return f, nil
}

// makeWindows makes the memory that copies and stores go to.
func (b *bench) makeWindows() error {
	size := b.effort.copyBytes
	for _, n := range b.Tokens {
		size = max(size, uint64(b.newRow(n).DispatchBytes))
	}
	// A rank's part of what it stores, of every rank.
	peers := uint64(len(b.members) - 1)
	var err error
	b.windows, err = b.shared(size / peers * (peers + 1))
	return err
}

// next is the rank that a rank's bytes go to.
func (b *bench) next(rank int) int { return (rank + 1) % len(b.members) }

// rate returns the GB/s at which each of the first ranks moves effort.copyBytes.
func (b *bench) rate(ranks int, move enqueue) (float64, error) {
	times, err := b.run(warm, min(b.effort.replays, 20), func(rank int, s driver.Stream) error {
		if rank >= ranks {
			return nil
		}
		return move(rank, s)
	})
	if err != nil {
		return 0, err
	}
	return float64(b.effort.copyBytes) / (slowest(times, 1).Median * 1e3), nil
}

// stores is a launch that stores so many bytes in all to the other ranks, on all
// SMs that moegen may use, and waits for nothing.
func (b *bench) stores(rank int, bytes uint64) launch {
	const threads = 512
	ranks := len(b.members)
	packs := int(bytes/16) / (ranks - 1)
	// The second pointer is how far one rank's window is from the next one's.
	l := b.single("stores", rank, []driver.DevicePtr{b.windows[0], b.windows[1] - b.windows[0]}, packs, rank, ranks)
	return l.with(min(max(1, (packs+threads-1)/threads), b.Spec.SMLimit), threads)
}

// measureStores measures stores of as many bytes as a dispatch sends, launched
// as a dispatch is: what is left when nothing is read and nobody waits.
func (b *bench) measureStores(row *Row) error {
	nodes := b.effort.nodes(row.Tokens)
	t, err := b.graph(nodes, b.effort.replays, func(rank int, s driver.Stream) error {
		l := b.stores(rank, uint64(row.DispatchBytes))
		l.config.Dependent = true
		return repeat(nodes, s, l)
	})
	row.Stores = &t
	return err
}

// pingPong returns the microseconds that a flag takes from rank 0 to rank 1 or
// back: the best of a few exchanges of many.
func (b *bench) pingPong(kernel string) (float64, error) {
	memory := b.windows[:2]
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
