package runtime

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Dump is how far ranks have come, and how far they have seen the others come:
// what kernels have written, copied while they may go on. It names who holds a
// group up. Epochs count a phase's operations, modulo 2^32.
type Dump struct {
	// Ranks of this process. What a rank has signalled to others it has signalled
	// to itself too, and the signals of all others are in its own memory: so one
	// rank's words tell of all ranks.
	Ranks []RankDump
}

// RankDump is one rank's words.
type RankDump struct {
	Rank    int
	Error   string // why they could not be read; there is nothing else then
	Failure string // what failed the group, as this rank was told; "" if nothing has
	Step    StepCounts
	Phases  []PhaseDump
}

// PhaseDump is one phase of one protocol.
type PhaseDump struct {
	Phase    Phase
	Protocol string // "bulk" or "ll"; "" for counts, which both have
	// Ended is how many operations this rank has ended with all others, in block 0.
	// Once the group has failed, it may count some that left at once.
	Ended uint32
	// Signals are, by rank, the last operation that block 0 has signalled here.
	// This rank's own is what it expects of the others. nil over NCCL.
	Signals []uint32
	// Behind are the ranks that have not signalled, in some block, what others have.
	Behind []Lag
}

// Lag is a rank that is behind.
type Lag struct {
	Rank   int
	Epoch  uint32 // that it has signalled, in the first of the blocks
	Want   uint32 // that is expected there
	Blocks int    // how many blocks are behind
}

// Dump reads the words of all ranks of this process, at most for some seconds,
// whatever state the kernels and the group are in. Any goroutine may call it.
func (d *Dispatcher) Dump() *Dump {
	d.reading.Lock() // ranks' memory stays while one of them is not closed
	defer d.reading.Unlock()
	if d.closed {
		return &Dump{Ranks: []RankDump{{Rank: d.rank, Error: ErrClosed.Error()}}}
	}
	members := d.row.open()
	dump := &Dump{Ranks: make([]RankDump, len(members))}
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { dump.Ranks[i] = m.words() }) // at once: each may take its time
	}
	wg.Wait()
	return dump
}

// words reads this rank's words. The caller sees to it that there are any.
func (d *Dispatcher) words() RankDump {
	p, w := d.prog, d.prog.words()
	r := RankDump{Rank: d.rank}
	control, err := readWords(d.dev, d.control, p.Layout.Control)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	symm, err := readWords(d.dev, d.mem.Unicast[d.rank], w.end)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	if failure := binary.LittleEndian.Uint64(symm); failure != 0 {
		r.Failure = decodeFailure(failure).Error()
	}
	r.Step = p.stepCounts(control)
	blocks, ranks := p.MaxBlocks, uint64(p.Ranks)
	phase := func(phase Phase, protocol string, ended uint32, blocks int, signal func(block, rank uint64) uint32) {
		x := PhaseDump{Phase: phase, Protocol: protocol, Ended: ended}
		if d.transport != NCCL {
			x.compare(d.rank, p.Ranks, blocks, signal)
		}
		r.Phases = append(r.Phases, x)
	}
	phase(PhaseCounts, "", word(control, w.countEpochs), blocks, func(b, r uint64) uint32 {
		at := w.counts + 8*(b*ranks+r) + 4
		even, odd := word(symm, at), word(symm, at+8*uint64(blocks)*ranks)
		if int32(odd-even) > 0 {
			return odd
		}
		return even
	})
	if d.transport == NCCL {
		return r
	}
	for _, x := range []struct {
		phase                             Phase
		flags, epochs, headers, lowEpochs uint64
	}{
		{PhaseDispatch, w.dispatch, w.dispatchEpochs, w.lowDispatch, w.lowDispatchEpochs},
		{PhaseCombine, w.combine, w.combineEpochs, w.lowCombine, w.lowCombineEpochs},
	} {
		phase(x.phase, "bulk", p.ended(control, x.epochs), blocks, func(b, r uint64) uint32 { return word(symm, x.flags+4*(b*ranks+r)) })
		if p.low() {
			phase(x.phase, "ll", word(control, x.lowEpochs), 1, func(_, r uint64) uint32 { return word(symm, x.headers+4*r) })
		}
	}
	return r
}

// compare finds who is behind, in each block.
func (x *PhaseDump) compare(self, ranks, blocks int, signal func(block, rank uint64) uint32) {
	lags := map[int]*Lag{}
	behind := func(rank int, has, want uint32) {
		l := lags[rank]
		if l == nil {
			l = &Lag{Rank: rank, Epoch: has, Want: want}
			lags[rank] = l
		}
		l.Blocks++
	}
	for b := range uint64(blocks) {
		own := signal(b, uint64(self))
		most := own
		for r := range ranks {
			e := signal(b, uint64(r))
			if b == 0 {
				x.Signals = append(x.Signals, e)
			}
			if int32(e-own) < 0 {
				behind(r, e, own)
			}
			if int32(e-most) > 0 {
				most = e
			}
		}
		if most != own {
			behind(self, own, most)
		}
	}
	for r := range ranks {
		if l := lags[r]; l != nil {
			x.Behind = append(x.Behind, *l)
		}
	}
}

// name is the phase, and the protocol where there are two.
func (x *PhaseDump) name() string {
	if x.Protocol == "" {
		return x.Phase.String()
	}
	return fmt.Sprintf("%s (%s)", x.Phase, x.Protocol)
}

// Summary says in one line which ranks are behind, and where.
func (d *Dump) Summary() string {
	var lines []string
	for _, r := range d.Ranks {
		for _, x := range r.Phases {
			for _, l := range x.Behind {
				line := fmt.Sprintf("rank %d is at %s %d and %d is awaited", l.Rank, x.name(), l.Epoch, l.Want)
				if !slices.Contains(lines, line) {
					lines = append(lines, line)
				}
			}
		}
	}
	if lines == nil {
		return "no rank is behind"
	}
	return strings.Join(lines, "; ")
}

// String is the whole dump, a line for each rank and phase.
func (d *Dump) String() string {
	var b strings.Builder
	for _, r := range d.Ranks {
		fmt.Fprintf(&b, "rank %d", r.Rank)
		if r.Error != "" {
			fmt.Fprintf(&b, ": %s\n", r.Error)
			continue
		}
		fmt.Fprintf(&b, ", step %d with %d tokens of %d", r.Step.Epoch, r.Step.Tokens, r.Step.AllTokens)
		if r.Failure != "" {
			fmt.Fprintf(&b, ", failed: %s", r.Failure)
		}
		b.WriteByte('\n')
		for _, x := range r.Phases {
			fmt.Fprintf(&b, "  %-15s ended %d", x.name(), x.Ended)
			if x.Signals != nil {
				fmt.Fprintf(&b, ", signals by rank %d", x.Signals)
			}
			for _, l := range x.Behind {
				fmt.Fprintf(&b, ", rank %d is at %d and %d is awaited (%s)", l.Rank, l.Epoch, l.Want, plural(l.Blocks, "block"))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}
